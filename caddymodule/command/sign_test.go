package command

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

const (
	signKey    = "ak_7Yq2m0VtB1cD3eF4gH5i"
	signSecret = "sk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123"
)

// inFolder runs the test in a folder of its own, with the credentials of a
// sandbox app in it.
func inFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv(secretVariable, "")
	writeFile(t, "data/sandbox-app.json", `{"app_key":"`+signKey+`","secret":"`+signSecret+`","environment":"sandbox","number":1}`)
	return dir
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

// verifier is a server that accepts calls signed with signSecret, and answers
// with what it received.
type verifier struct {
	now  func() time.Time
	keys map[string][]*signing.Key
	// dialect is the one that is accepted.
	dialect string
	mu      sync.Mutex
	last    *http.Request
}

func newVerifier(t *testing.T, now func() time.Time) *verifier {
	t.Helper()
	v := &verifier{now: now, dialect: "op1", keys: map[string][]*signing.Key{}}
	for _, d := range signing.Names() {
		key, err := signing.NewSecretKey(d, "", 1, []byte(signSecret))
		require.NoError(t, err, d)
		v.keys[d] = []*signing.Key{key}
	}
	return v
}

func (v *verifier) check(r *http.Request, body []byte) error {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	req := &signing.Request{
		Method: r.Method, Scheme: scheme, Authority: r.Host, Path: path, RawQuery: query, Header: r.Header,
		ContentLength: int64(len(body)), Body: body, BodyRead: true,
	}
	set, err := signing.NewSet(v.dialect)
	if err != nil {
		return err
	}
	var claim signing.Claim
	if err := set.Claim(&claim, req); err != nil {
		return err
	}
	if _, err := claim.Verify(req, v.keys[claim.Dialect], signing.Options{Now: v.now()}); err != nil {
		return err
	}
	return claim.CheckBody(body)
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v.mu.Lock()
	v.last = r
	v.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := v.check(r, body); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"code": "signature_invalid", "detail": err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"path": r.URL.Path, "order": 9007199254740993})
}

func TestSignKnownAnswer(t *testing.T) {
	inFolder(t)
	out := run(t, "", "sign", "--show-base", "https://Localhost:443/v1/products?page=2").ok(t)
	params := `("@method" "@authority" "@path" "@query");created=1801382400;nonce="` + testNonce(1) + `";keyid="ak_7Yq2m0VtB1cD3eF4gH5i";tag="op1"`
	base := `"@method": GET
"@authority": localhost
"@path": /v1/products
"@query": ?page=2
"@signature-params": ` + params
	mac := hmac.New(sha256.New, []byte(signSecret))
	mac.Write([]byte(base))
	require.Equal(t, strings.TrimLeft(`
GET https://Localhost:443/v1/products?page=2
Signature: op=:`+base64.StdEncoding.EncodeToString(mac.Sum(nil))+`:
Signature-Input: op=`+params+`

String to sign:
`+base+`
`, "\n"), out)
	require.NotContains(t, out, signSecret)
}

func TestSignJSONAndKeys(t *testing.T) {
	inFolder(t)
	order := `{"sku":"纯棉"}`
	writeFile(t, "order.json", order)
	var call callJSON
	out := run(t, "", "sign", "--json", "-d", "@order.json", "-X", "PUT", "https://localhost:8443/v1/orders").ok(t)
	require.NoError(t, json.Unmarshal([]byte(out), &call))
	require.Equal(t, "PUT", call.Method)
	require.Equal(t, order, call.Body, "byte by byte: it is signed")
	require.Equal(t, "application/json", call.Headers["Content-Type"])
	require.Contains(t, call.Headers["Signature-Input"], `"content-digest" "content-type"`)
	require.Empty(t, call.StringToSign)

	openssl(t, "genpkey", "-algorithm", "ed25519", "-out", "key.pem")
	out = run(t, "", "sign", "--app-key", signKey+"#2", "--key-file", "key.pem", "https://localhost:8443/").ok(t)
	require.Contains(t, out, `keyid="`+signKey+`#2"`)

	t.Setenv(secretVariable, signSecret)
	out = run(t, "", "sign", "--app-key", "ak_other", "https://localhost:8443/").ok(t)
	require.Contains(t, out, `keyid="ak_other"`)
}

func TestSignMasksTheSecretInTheBase(t *testing.T) {
	inFolder(t)
	for _, dialect := range signing.Names() {
		u := "https://localhost:8443/v1/orders?method=a.b"
		if dialect == "aop1688" {
			u = "https://localhost:8443/openapi/param2/1/ns/api/" + signKey
		}
		r := run(t, "", "sign", "--dialect", dialect, "--show-base", u)
		require.NotContains(t, r.stdout+r.stderr, signSecret, dialect)
		require.Equal(t, 0, r.code, "%s: %s", dialect, r.stderr)
	}
}

func TestSignUsage(t *testing.T) {
	inFolder(t)
	writeFile(t, "empty", "\n")
	writeFile(t, "broken.json", `{"secret":"`+signSecret+`"`)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no URL":           {nil, "URL is missing"},
		"no scheme":        {[]string{"localhost:8443/v1"}, "https://host/path"},
		"blank in query":   {[]string{"https://localhost/?a=b c"}, "%20"},
		"bad header":       {[]string{"-H", "nothing", "https://localhost/"}, "Name: value"},
		"bad dialect":      {[]string{"--dialect", "op2", "https://localhost/"}, "op1"},
		"bad digest":       {[]string{"--method-digest", "md5", "https://localhost/"}, "hmac-sha256"},
		"no file":          {[]string{"-d", "@nope", "https://localhost/"}, "-d: nope"},
		"empty secret":     {[]string{"--secret-file", "empty", "https://localhost/"}, "empty"},
		"other app key":    {[]string{"--app-key", "ak_x", "https://localhost/"}, "--secret-file"},
		"two secrets":      {[]string{"--secret", "x", "--secret-file", "empty", "https://localhost/"}, "exclude"},
		"broken file":      {[]string{"--credentials", "broken.json", "https://localhost/"}, "app_key"},
		"bad number":       {[]string{"--app-key", signKey + "#x", "https://localhost/"}, "credential number"},
		"bad method":       {[]string{"-X", "GE T", "https://localhost/"}, "no method"},
		"bad private key":  {[]string{"--key-file", "empty", "https://localhost/"}, "PRIVATE KEY"},
		"secret as an URL": {[]string{signSecret}, "is a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, "", append([]string{"sign"}, c.args...)...)
			r.usage(t, c.says)
			require.NotContains(t, r.stderr, signSecret)
		})
	}
}

func TestCurlOverTLS(t *testing.T) {
	inFolder(t)
	v := newVerifier(t, adminapitest.Now)
	server := httptest.NewTLSServer(v)
	t.Cleanup(server.Close)
	writeFile(t, "data/caddy/pki/authorities/local/root.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))

	r := run(t, "", "curl", "--token", "at_12345", "-d", `{"a":1}`, server.URL+"/v1/orders%2F1?x=%20")
	out := r.ok(t)
	require.Contains(t, out, "> POST "+server.URL+"/v1/orders%2F1?x=%20")
	require.Contains(t, out, `"@path": /v1/orders%2F1`)
	require.Contains(t, out, "200 OK")
	require.Contains(t, out, `  "order": 9007199254740993`, "JSON is indented, numbers keep their text")
	require.NotContains(t, out, "at_12345", "the token is masked on the screen")
	require.Equal(t, "Bearer at_12345", v.last.Header.Get("Authorization"), "and sent")

	sent := `{"order":9007199254740993,"path":"/v1"}` + "\n"
	require.Equal(t, sent, run(t, "", "curl", "-s", server.URL+"/v1").ok(t), "the body as it is")
	var both struct {
		Response struct {
			Status int
			Body   map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, "", "curl", "--json", server.URL+"/v1").ok(t)), &both))
	require.Equal(t, 200, both.Response.Status)
	require.Equal(t, "/v1", both.Response.Body["path"])

	// What "sign --curl" prints works as it is.
	line := run(t, "", "sign", "--curl", "-d", `it's "text"`, server.URL+"/v1/{x}?y=[1]").ok(t)
	out, err := shell(t, "sh", strings.Replace(line, "curl ", "curl -s ", 1))
	require.NoError(t, err, out)
	require.Contains(t, out, `"path":"/v1/{x}"`, line)

	// A refused call is exit code 1, with the answer on standard output.
	writeFile(t, "wrong", strings.Repeat("x", 64))
	r = run(t, "", "curl", "--secret-file", "wrong", "--app-key", signKey, server.URL+"/v1")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "401 Unauthorized")
	require.Empty(t, r.stderr)

	writeFile(t, "other.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: otherCertificate(t)})))
	run(t, "", "curl", "--cacert", "other.crt", server.URL+"/v1").failed(t, "give --cacert FILE, or --insecure")
	run(t, "", "curl", "--cacert", "other.crt", "--insecure", server.URL+"/v1").ok(t)
	run(t, "", "curl", "--cacert", "wrong", server.URL+"/v1").usage(t, "no PEM certificate")

	server.Close()
	run(t, "", "curl", server.URL+"/v1").failed(t, "caddy run")
}

func TestCurlEveryDialect(t *testing.T) {
	inFolder(t)
	v := newVerifier(t, adminapitest.Now)
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	host := strings.Replace(server.URL, "127.0.0.1", "sandbox.localhost", 1)
	for dialect, target := range map[string]string{
		"op1":     "/v1/orders/1?x=y",
		"rfc9421": "/v1/orders/1?x=y",
		"aop1688": "/openapi/param2/1/com.alibaba.trade/order.get/" + signKey + "?id=1",
		"top":     "/router/rest?method=trade.order.get&id=1",
		"jd":      "/routerjson?method=trade.order.get&v=2.0",
		"pdd":     "/api/router?type=trade.order.get&id=1",
		"lazada":  "/rest/order/get?id=1",
		"dewu":    "/v1/order?id=1",
		"shopee":  "/api/v2/shop/get",
	} {
		v.dialect = dialect
		r := run(t, "", "curl", "--dialect", dialect, host+target)
		require.Equal(t, 0, r.code, "%s: %s%s", dialect, r.stdout, r.stderr)
	}
}

func TestQuickstartCommandsWork(t *testing.T) {
	inFolder(t)
	server := httptest.NewTLSServer(newVerifier(t, time.Now))
	t.Cleanup(server.Close)
	writeFile(t, "data/caddy/pki/authorities/local/root.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	for _, path := range []string{"/v1/products", "/v1/products?page=2&q=%E5%9B%BE"} {
		var out struct{ Steps []step }
		text := run(t, "", "quickstart", "--json", "--wait", "30s", "--url", server.URL+path).ok(t)
		require.NoError(t, json.Unmarshal([]byte(text), &out))
		require.Len(t, out.Steps, 3)
		require.Equal(t, "./caddy open-platform curl "+quote(server.URL+path), out.Steps[0].Command)
		for _, sh := range []string{"sh", "bash"} {
			answer, err := shell(t, sh, "set -e\n"+out.Steps[1].Command)
			require.NoError(t, err, answer)
			require.Contains(t, answer, `"path":"/v1/products"`)
		}
		answer, err := shell(t, "sh", out.Steps[2].Command)
		require.NoError(t, err, answer)
		require.Contains(t, answer, "401")
	}
}

func TestQuickstartWaits(t *testing.T) {
	inFolder(t)
	asked := make(chan struct{}, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	u := "http://" + server.Listener.Addr().String() + "/v1/products"
	done := make(chan result, 1)
	go func() { done <- run(t, "", "quickstart", "--wait", "30s", "--url", u) }()
	server.Start()
	t.Cleanup(server.Close)
	out := (<-done).ok(t)
	require.Contains(t, out, "# 1. ")
	require.Len(t, asked, 1)

	run(t, "", "quickstart", "--wait", "10ms", "--url", "http://127.0.0.1:1/").failed(t, "waited 10ms in vain")
	require.NoError(t, os.Remove("data/sandbox-app.json"))
	run(t, "", "quickstart").usage(t, "--credentials: ./data/sandbox-app.json")
}

func openssl(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func shell(t *testing.T, sh, script string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), sh, "-c", script).CombinedOutput()
	return string(out), err
}

// otherCertificate is a certificate that signed nothing.
func otherCertificate(t *testing.T) []byte {
	t.Helper()
	openssl(t, "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=other", "-days", "2")
	data, err := os.ReadFile("other.pem")
	require.NoError(t, err)
	block, _ := pem.Decode(data)
	require.NotNil(t, block)
	return block.Bytes
}

// testRand is the randomness of run: its n-th 16 bytes make the n-th nonce.
func testRand() io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte("nonces"))) }
