package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// shopCatalog describes the service that the tests have behind the gate.
const shopCatalog = `openapi: 3.1.0
info: {title: A small shop, version: "1.0"}
x-open-upstream: 127.0.0.1:%upstream%
x-open-packages:
  - {name: trade, title: Trade}
paths:
  /v1/echo:
    get:
      x-open-name: shop.echo
      responses: {"200": {description: What was asked., content: {application/json: {example: {mock: true}}}}}
    post:
      x-open-name: shop.echo.post
      responses: {"200": {description: What was asked., content: {application/json: {example: {mock: true}}}}}
  /v1/items/{item_id}:
    get:
      x-open-name: shop.item.get
      parameters: [{name: item_id, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: An item., content: {application/json: {example: {mock: true}}}}}
  /v1/events:
    get:
      x-open-name: shop.events
      responses: {"200": {description: Events as they come.}}
  /v1/socket:
    get:
      x-open-name: shop.socket
      responses: {"200": {description: A web socket.}}
  /v1/dead:
    get:
      x-open-name: shop.dead
      x-open-upstream: 127.0.0.1:%dead%
      responses: {"200": {description: Never.}}
  /v1/gold:
    get:
      x-open-name: shop.gold
      x-open-package: trade
      responses: {"200": {description: For who may trade.}}
`

// globals are the global options of all configurations; more is put among them.
func globals(more string) string {
	return `{
	admin 127.0.0.1:%admin%
	persist_config off
	default_bind 127.0.0.1
	http_port %http%
	https_port %https%
	auto_https disable_redirects
	skip_install_trust
	storage file_system ./data/caddy
	grace_period 10s
	open_platform {
		storage sqlite ./data/openplatform.db
		catalog ./shop.openapi.yaml
	}
` + more + "\n}\n"
}

// gated is a site with the gate before the shop. The address is that of the
// site, more goes into open_gate.
func gated(address, environment, more string) string {
	return address + ` {
	open_gate {
		environment ` + environment + `
		` + more + `
	}
	reverse_proxy {http.open_platform.upstream}
}
`
}

// startShop starts the shop and a server before it.
func startShop(t *testing.T, caddyfile string) (*node, *shop) {
	t.Helper()
	n := newNode(t)
	s := n.openShop()
	n.write("shop.openapi.yaml", n.fill(shopCatalog))
	n.configure(caddyfile)
	n.run()
	return n, s
}

// shop is the service behind the gate.
type shop struct {
	*httptest.Server
	seen chan echo // calls whose body did not arrive whole
	more chan struct{}
}

// echo is what the shop saw of a call.
type echo struct {
	Method  string      `json:"method"`
	URI     string      `json:"uri"`
	Header  http.Header `json:"header"`
	Trailer http.Header `json:"trailer"`
	Length  int         `json:"length"`
	SHA256  string      `json:"sha256"`
	Error   string      `json:"error"`
}

// openShop starts the service and makes the node's word upstream its port.
func (n *node) openShop() *shop {
	n.t.Helper()
	s := &shop{seen: make(chan echo, 16), more: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/events", s.events)
	mux.HandleFunc("/v1/socket", s.socket)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/events" || r.URL.Path == "/v1/socket" {
			mux.ServeHTTP(w, r)
			return
		}
		s.echo(w, r)
	}))
	n.t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(n.t, err)
	n.words["upstream"] = port
	return s
}

// echo answers with what was asked.
func (s *shop) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	e := echo{r.Method, r.RequestURI, r.Header, r.Trailer, len(body), hex.EncodeToString(sum[:]), ""}
	if err != nil {
		e.Error = err.Error()
		s.seen <- e
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(e)
}

// events sends a second event when the test has seen the first one.
func (s *shop) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: first\n\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-s.more:
		_, _ = io.WriteString(w, "data: second\n\n")
	case <-r.Context().Done():
	}
}

// next has the shop send the second event.
func (s *shop) next(t *testing.T) {
	t.Helper()
	select {
	case s.more <- struct{}{}:
	case <-time.After(patience):
		require.FailNow(t, "nobody waits for the second event")
	}
}

// brokenOff is a call whose body did not arrive whole.
func (s *shop) brokenOff(t *testing.T) echo {
	t.Helper()
	select {
	case e := <-s.seen:
		require.NotEmpty(t, e.Error)
		return e
	case <-time.After(patience):
		require.FailNow(t, "the shop saw no call")
		return echo{}
	}
}

// socket answers one message with its upper case.
func (s *shop) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	kind, data, err := conn.Read(r.Context())
	if err != nil {
		return
	}
	text := append([]byte(r.Header.Get("X-Open-App-Id")+" "), bytes.ToUpper(data)...)
	if conn.Write(r.Context(), kind, text) == nil {
		_ = conn.Close(websocket.StatusNormalClosure, "")
	}
}

// echoed reads what the shop saw.
func (a answer) echoed(t *testing.T) echo {
	t.Helper()
	a.passed(t)
	var e echo
	require.NoError(t, json.Unmarshal(a.body, &e), "%s", a.body)
	return e
}
