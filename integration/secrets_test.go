package integration

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted are values that must be found nowhere, by what they are.
type planted map[string]string

// signatures plants the signatures of a request.
func (p planted) signatures(name string, req *http.Request) {
	add := func(kind, value string) {
		if value = strings.Trim(value, ":"); value != "" {
			p[name+" "+kind+" "+strconv.Itoa(len(p))] = value
		}
	}
	for _, v := range req.Header["Signature"] {
		_, value, _ := strings.Cut(v, "=")
		add("Signature", value)
	}
	for _, name := range []string{"sign", "_aop_signature"} {
		add(name, req.URL.Query().Get(name))
	}
	body := new(bytes.Buffer)
	if copied, err := req.GetBody(); err == nil {
		_, _ = body.ReadFrom(copied)
	}
	var members map[string]any
	if json.Unmarshal(body.Bytes(), &members) == nil {
		sign, _ := members["sign"].(string)
		add("sign in JSON", sign)
	} else if form, err := url.ParseQuery(body.String()); err == nil {
		add("sign in a form", form.Get("sign"))
	}
}

// absent checks that text holds none of the values, raw or percent-encoded.
func (p planted) absent(t *testing.T, where, text string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p)) {
		for _, form := range []string{p[name], url.QueryEscape(p[name])} {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s holds the %s: %q", where, name, text[max(0, at-300):at+len(form)])
			}
		}
	}
}

// TestSecretsStay plants secrets, tokens and signatures wherever calls carry
// them, and looks for them in everything that the server writes and answers.
func TestSecretsStay(t *testing.T) {
	const options = `
	log {
		level DEBUG
		format open_platform
	}`
	sites := gated("http://127.0.0.1:%site%", "sandbox", "dialects "+allDialects())
	sites = strings.Replace(sites, "{\n", `{
	log {
		format open_platform
	}
	redir /old* /v1/echo?{query}
	route /plain* {
		respond "no gate here"
	}
`, 1)
	caddyfile := strings.Replace(globals(options), "storage sqlite ./data/openplatform.db", `storage sqlite ./data/openplatform.db
		master_key {file.%folder%/master.txt}`, 1) + sites

	n := newNode(t)
	n.openShop()
	n.words["folder"] = n.dir
	plants := planted{"master key": strings.Repeat("5eaf00d1", 8)}
	n.write("master.txt", plants["master key"])
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	n.configure(caddyfile)
	n.run()
	base, client := n.fill("http://127.0.0.1:%site%"), n.plain()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	apps := n.inDialects(n.newApp(), "sandbox")
	for _, a := range apps {
		plants[a.Dialect+" secret"] = a.Secret
		token := "plant/token+" + a.Dialect
		plants[a.Dialect+" token"] = token
		for i, c := range []call{
			{url: base + a.target()},
			{url: base + a.target(), method: "POST", body: []byte("y=2"), header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
			{url: base + a.target(), method: "POST", body: []byte(`{"z":3}`), header: http.Header{"Content-Type": {"application/json"}}},
		} {
			if i == 2 && !slices.Contains([]string{"op1", "rfc9421", "dewu", "doudian", "top", "lazada", "aliexpress"}, a.Dialect) {
				continue // these know no JSON
			}
			if i == 2 && a.Dialect == "doudian" {
				c.url = strings.Replace(c.url, "&param_json=%7B%7D", "", 1) // the body is its param_json
			}
			if i == 1 && a.Dialect == "doudian" {
				continue // nor this one forms
			}
			c.token = token
			req := a.sign(t, c)
			plants.signatures(a.Dialect, req)
			got := send(t, client, req)
			require.Equal(t, http.StatusOK, got.StatusCode, "%s %d: %s", a.Dialect, i, got.body)
			plants.absent(t, "what the shop sees", string(got.body))

			again, err := http.NewRequestWithContext(t.Context(), req.Method, req.URL.String(), nil)
			require.NoError(t, err)
			again.Header = req.Header.Clone()
			if again.Body, err = req.GetBody(); err != nil {
				require.NoError(t, err)
			}
			again.ContentLength = req.ContentLength
			got = send(t, client, again)
			got.refused(t, http.StatusUnauthorized, "nonce_reused")
			plants.absent(t, "a refusal", string(got.body))
		}
		for _, path := range []string{"/v1/nothing", "/old", "/plain", "/v1/dead", "/v1/gold"} {
			target := strings.ReplaceAll(a.target(), "shop.echo", "shop."+path[strings.LastIndexByte(path, '/')+1:])
			if _, query, _ := strings.Cut(target, "?"); a.Dialect == "aop1688" {
				target = path + strings.TrimPrefix(target, "/openapi")
			} else {
				target = path + "?" + query
			}
			req := a.sign(t, call{url: base + target, token: token})
			plants.signatures(a.Dialect, req)
			req.Header.Set("Referer", req.URL.String())
			got := send(t, client, req)
			plants.absent(t, "the answer of "+path, string(got.body))
		}
	}

	// What calls of other kinds carry.
	loose := url.Values{}
	for _, name := range []string{
		"sign", "_aop_signature", "signature", "access_token", "accessToken", "session", "token", "refresh_token", "code",
		"secret", "app_secret", "appSecret", "client_secret", "signSecret",
	} {
		plants["query "+name] = "plant-query-" + name
		loose.Set(name, plants["query "+name])
	}
	for _, path := range []string{"/v1/echo", "/old", "/plain"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path+"?app_key="+apps[0].Key+"&"+loose.Encode(), nil)
		require.NoError(t, err)
		for _, name := range []string{"Signature", "X-Sign", "DPoP", "Authorization", "Cookie"} {
			plants["header "+name] = "plant-header-" + name
			req.Header.Set(name, plants["header "+name])
		}
		plants.absent(t, "the answer of "+path, string(send(t, client, req).body))
	}

	t.Run("the command line hides them", func(t *testing.T) {
		n.write("app.json", `{"app_key":"`+apps[0].Key+`","secret":"`+apps[0].Secret+`"}`)
		plants["curl token"] = "plant-curl-token"
		out := n.cli("curl", "--credentials", "app.json", "--token", plants["curl token"], base+"/v1/echo?x=1")
		require.Contains(t, out, "200 OK")
		plants.absent(t, "curl", out)
		for _, verb := range [][]string{{"app", "list"}, {"app", "show", apps[0].Key}, {"audit"}, {"status"}} {
			out := n.cli(append(verb, "--json")...)
			require.NotEmpty(t, out)
			plants.absent(t, strings.Join(verb, " "), out)
		}
		require.NoError(t, os.Remove(filepath.Join(n.dir, "app.json")))
	})

	t.Run("no admin answer repeats them", func(t *testing.T) {
		for _, path := range []string{
			"/open_platform/apps", "/open_platform/apps/" + apps[0].Key, "/open_platform/audit", "/open_platform/status",
			"/open_platform/apis", "/metrics", "/config/", "/debug/vars",
		} {
			status, data := n.api(http.MethodGet, path, nil)
			require.Equal(t, http.StatusOK, status, "%s: %s", path, data)
			plants.absent(t, path, string(data))
		}
		_, data := n.api(http.MethodPost, "/open_platform/apps", []byte(`{"name":"x","secret":"plant-body"}`))
		require.Contains(t, string(data), "unknown field")
	})

	t.Run("no file and no log holds them", func(t *testing.T) {
		log := n.log.String()
		for _, want := range []string{`"logger":"http.log.access`, `"msg":"call refused`, `"level":"debug"`, "REDACTED", "upstream_unavailable"} {
			require.True(t, strings.Contains(log, want), "the log has no %s", want) //nolint:testifylint // a failure would print all of it
		}
		plants.absent(t, "the log", log)
		files := 0
		require.NoError(t, filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() == "master.txt" {
				return err
			}
			data, err := os.ReadFile(path)
			files++
			plants.absent(t, path, string(data))
			return err
		}))
		require.Greater(t, files, 2)
		require.FileExists(t, filepath.Join(n.dir, "data", "openplatform.db"))
	})

	t.Run("nor after the end", func(t *testing.T) {
		n.stop()
		plants.absent(t, "the log", n.log.String())
	})
}
