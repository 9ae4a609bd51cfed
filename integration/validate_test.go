package integration

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestValidate: a configuration is checked without touching the store or the
// network, also beside a running server.
func TestValidate(t *testing.T) {
	// Caddy itself keeps locks and certificates in ./data/caddy.
	caddyfile := strings.Replace(globals(""), "./data/openplatform.db", "./absent/folder/openplatform.db", 1) + gated("http://127.0.0.1:%site%", "sandbox", "dialects op1 top")
	n := newNode(t)
	n.openShop()
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	n.configure(caddyfile)

	t.Run("nothing is made", func(t *testing.T) {
		// The ports are taken, which a check must not notice.
		for _, name := range []string{"site", "admin"} {
			taken, err := net.Listen("tcp", "127.0.0.1:"+n.word(name))
			require.NoError(t, err)
			defer taken.Close()
		}
		out, err := n.command("validate", "--config", "Caddyfile").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "Valid configuration")
		require.NoDirExists(t, filepath.Join(n.dir, "absent"))
	})

	t.Run("beside a running server", func(t *testing.T) {
		n.run()
		a := n.newApp()
		before := n.snapshot("absent")
		files := n.openFiles("openplatform.db")
		out, err := n.command("validate", "--config", "Caddyfile").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, before, n.snapshot("absent"))
		require.Equal(t, files, n.openFiles("openplatform.db"))
		send(t, n.plain(), a.sign(t, call{url: n.fill("http://127.0.0.1:%site%/v1/echo")})).passed(t)
	})

	t.Run("no server is asked", func(t *testing.T) {
		var conns []net.Listener
		for range 3 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			conns = append(conns, l)
		}
		n.write("shared.Caddyfile", n.fill(clusterSetup{
			dsn: "postgres://op@" + conns[0].Addr().String() + "/op", redis: "redis redis://" + conns[1].Addr().String(),
		}.config())+n.fill(`https://localhost:%oauth% {
	tls internal
	open_oauth {
		passport oidc {
			issuer https://`+conns[2].Addr().String()+`
			client_id us
		}
	}
}
`))
		out, err := n.command("validate", "--adapter", "caddyfile", "--config", "shared.Caddyfile").CombinedOutput()
		require.NoError(t, err, "%s", out)
		for _, l := range conns {
			require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now()))
			_, err := l.Accept()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "somebody has called")
		}
	})

	t.Run("what is wrong is named", func(t *testing.T) {
		oidc := func(option string) string {
			return "https://localhost:%oauth% {\n\ttls internal\n\topen_oauth {\n\t\tpassport oidc {\n\t\t\tissuer https://login.example.com\n\t\t\tclient_id us\n\t\t\t" +
				option + "\n\t\t}\n\t}\n}\n"
		}
		push := func(option string) string {
			return strings.Replace(globals(""), "catalog", "push {\n\t\t\t"+option+"\n\t\t}\n\t\tcatalog", 1)
		}
		for name, c := range map[string]struct{ caddyfile, want string }{
			"environment": {globals("") + gated("http://127.0.0.1:%site%", "moon", ""), "moon"},
			"dialect":     {globals("") + gated("http://127.0.0.1:%site%", "sandbox", "dialects op1 esperanto"), "esperanto"},
			"option":      {globals("") + gated("http://127.0.0.1:%site%", "sandbox", "bufer 1MiB"), "bufer"},
			"dsn":         {clusterSetup{dsn: "mysql://op:hidden@db/op", redis: "-"}.config(), "PostgreSQL DSN"},
			"redis":       {clusterSetup{dsn: "postgres://op@db/op", redis: "redis http://op:hidden@cache"}.config(), "redis"},
			"oidc secret": {globals("") + oidc("client_secret {env.OPEN_NOT_SET}"), "client_secret"},
			"oidc ca":     {globals("") + oidc("ca ./nowhere.pem"), "nowhere.pem"},
			"redirect":    {strings.Replace(globals(""), "catalog", "sandbox_app ./app.json http://localhost/callback\n\t\tcatalog", 1), "http"},
			"push lease":  {push("timeout 10s\n\t\t\tlease 12s"), "lease"},
			"push allow":  {push("allow office"), "office"},
			"push ca":     {push("ca ./nowhere.pem"), "nowhere.pem"},
			"push egress": {push("egress office"), "egress"},
			"push keep":   {push("keep_messages 1h"), "48h"},
			"push wait 3": {push("keep_deliveries 48h"), "disable_after (72h0m0s)"},
			"push wait":   {push("schedule 10ms"), "schedule"},
			"publisher":   {globals("") + "http://127.0.0.1:%site% {\n\topen_publish {\n\t\tnetworks office\n\t}\n}\n", "office"},
			"no app":      {"http://127.0.0.1:%site% {\n\topen_gate sandbox\n}\n", "add the global option open_platform"},
		} {
			n.write("wrong.Caddyfile", n.fill(c.caddyfile))
			out, err := n.command("validate", "--adapter", "caddyfile", "--config", "wrong.Caddyfile").CombinedOutput()
			require.Error(t, err, name)
			require.Contains(t, string(out), c.want, name)
			require.NotContains(t, string(out), "hidden", name)
		}
	})
}

// snapshot tells size and time of every file below a folder, but for those
// that a running store goes on writing.
func (n *node) snapshot(folder string) map[string]string {
	n.t.Helper()
	files := map[string]string{}
	require.NoError(n.t, filepath.WalkDir(filepath.Join(n.dir, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) == ".db-wal" || filepath.Ext(path) == ".db-shm" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files[path] = info.ModTime().Format(time.RFC3339Nano)
		}
		return err
	}))
	return files
}

// TestAdaptExample: the shipped configuration is shorthand for the four stages.
func TestAdaptExample(t *testing.T) {
	n := newNode(t)
	example, err := os.ReadFile("../Caddyfile.example")
	require.NoError(t, err)
	n.write("Caddyfile.example", string(example))
	out, err := n.command("adapt", "--config", "Caddyfile.example").Output()
	require.NoError(t, err)
	for _, want := range []string{`"handler":"open_ip"`, `"handler":"open_sign"`, `"handler":"open_scope"`, `"handler":"open_rate"`, `"handler":"open_mock"`, `"handler":"open_problem"`, `"environment":"sandbox","handler":"open_oauth"`, `"environment":"production","handler":"open_oauth"`} {
		require.Contains(t, string(out), want)
	}
	require.NoDirExists(t, filepath.Join(n.dir, "data"))
	n.write("examples/mall.openapi.yaml", "openapi: 3.1.0\ninfo: {title: x, version: \"1\"}\npaths: {}\n")
	both, err := n.command("validate", "--adapter", "caddyfile", "--config", "Caddyfile.example").CombinedOutput()
	require.NoError(t, err, "%s", both)
	require.NoFileExists(t, filepath.Join(n.dir, "data", "openplatform.db"))
}
