package integration

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// state is the state of the only delivery of a message.
func (n *node) state(message string) string {
	n.t.Helper()
	list := n.deliveries("--message", message)
	require.Len(n.t, list, 1)
	return list[0].State
}

// awaitMessage waits until the only delivery of a message is in the state.
func (n *node) awaitMessage(message, state string) delivery {
	n.t.Helper()
	list := n.deliveries("--message", message)
	require.Len(n.t, list, 1)
	return n.awaitState(list[0].ID, state)
}

// TestPushGrantRevoked: what a merchant has withdrawn before the delivery does
// not reach the app.
func TestPushGrantRevoked(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		p := startPushing(t, pushConfig(storage, ""))
		p.cli("subscription", "update", p.sub, "--topic", "trade.order.created", "--topic", "shop.news")
		p.cli("subscription", "pause", p.sub)
		a := p.published(order(p.user, "1001"))
		require.Equal(t, 1, a.Deliveries)

		_, data := p.api(http.MethodGet, "/open_platform/grants?live=true&app="+p.app.ID, nil)
		var page struct{ Grants []struct{ ID string } }
		require.NoError(t, json.Unmarshal(data, &page))
		require.Len(t, page.Grants, 1)
		status, data := p.api(http.MethodDelete, "/open_platform/grants/"+page.Grants[0].ID, nil)
		require.Equal(t, http.StatusOK, status, "%s", data)

		p.cli("subscription", "resume", p.sub)
		d := p.awaitMessage(a.ID, "cancelled")
		require.Zero(t, d.Attempts)
		require.Zero(t, p.published(order(p.user, "1002")).Deliveries)
		// News need no merchant, and come after the order would have.
		p.published(map[string]any{"topic": "shop.news", "data": map[string]any{}})
		require.Equal(t, "shop.news", p.inbox.awaitCount(1)[0].Topic)
		require.Len(t, p.inbox.arrivals(), 1)
	})
}

// TestPullMessages: an app pulls what could not be pushed, and what it
// acknowledges is pushed no more.
func TestPullMessages(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		p := startPushing(t, pushConfig(storage, "schedule 1s"))
		client, base := p.client(1), "https://localhost:"+p.word("site")+"/v1/messages"
		pull := func(a app) (out []struct {
			Delivery, ID, Topic string
			Body                struct{ Encrypt string }
		},
		) {
			got := send(t, client, a.sign(t, call{url: base})).passed(t)
			require.NoError(t, json.Unmarshal(got.body, &struct{ Messages any }{&out}))
			return out
		}
		acknowledge := func(a app, deliveries ...string) int {
			body, err := json.Marshal(map[string]any{"deliveries": deliveries})
			require.NoError(t, err)
			got := send(t, client, a.sign(t, call{url: base + "/ack", body: body, header: http.Header{"Content-Type": {"application/json"}}})).passed(t)
			var answer struct{ Acknowledged int }
			require.NoError(t, json.Unmarshal(got.body, &answer))
			return answer.Acknowledged
		}

		require.Empty(t, pull(p.app))
		p.inbox.fails(http.StatusServiceUnavailable)
		failed := p.published(order(p.user, "1001"))
		p.awaitMessage(failed.ID, "failed")
		p.cli("subscription", "pause", p.sub)
		waits := p.published(order(p.user, "1002"))
		later := p.published(order(p.user, "1003"))

		list := pull(p.app)
		require.Len(t, list, 3)
		for i, want := range []accepted{failed, waits, later} {
			require.Equal(t, want.ID, list[i].ID, "the oldest comes first")
			require.Equal(t, "trade.order.created", list[i].Topic)
			plain, err := p.inbox.decrypt(list[i].Body.Encrypt)
			require.NoError(t, err)
			var e event
			require.NoError(t, json.Unmarshal(plain, &e))
			require.Equal(t, want.ID, e.ID)
			require.Equal(t, p.app.Key, e.AppKey)
			require.Contains(t, string(e.Data), fmt.Sprint(1001+i))
		}

		stranger := p.newApp()
		require.Empty(t, pull(stranger))
		require.Zero(t, acknowledge(stranger, list[0].Delivery, list[2].Delivery))
		require.Len(t, pull(p.app), 3)
		require.Equal(t, 2, acknowledge(p.app, list[0].Delivery, list[1].Delivery))
		require.Len(t, pull(p.app), 1)

		before := len(p.inbox.arrivals())
		p.inbox.answers(nil)
		p.cli("subscription", "resume", p.sub)
		p.awaitMessage(later.ID, "delivered")
		require.Contains(t, p.cli("push", "repush", "--app", p.app.ID, "--since", "1h", "--json"), `"done": 0`)
		require.Equal(t, later.ID, p.inbox.awaitCount(before + 1)[before].ID)
		last := p.published(order(p.user, "1004"))
		p.awaitMessage(last.ID, "delivered")
		require.Len(t, p.inbox.arrivals(), before+2, "what was acknowledged does not come")
		require.Equal(t, "acknowledged", p.state(failed.ID))
		require.Equal(t, "acknowledged", p.state(waits.ID))
		require.Empty(t, pull(p.app))
	})
}

// TestPushEndpointGone: an endpoint that answers 410 is disabled, and what
// waits for it arrives once it is resumed.
func TestPushEndpointGone(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		p := startPushing(t, pushConfig(storage, "schedule 1s"))
		p.inbox.fails(http.StatusGone)
		first := p.published(order(p.user, "1001"))
		p.awaitMessage(first.ID, "suspended")
		require.Contains(t, p.cli("subscription", "show", p.sub), "disabled")
		p.awaitLog(0, "an endpoint is disabled")
		second := p.published(order(p.user, "1002"))
		require.Equal(t, 1, second.Deliveries)
		p.awaitMessage(second.ID, "suspended")
		require.Len(t, p.inbox.arrivals(), 1)

		p.inbox.answers(nil)
		p.cli("subscription", "resume", p.sub)
		p.awaitMessage(first.ID, "delivered")
		p.awaitMessage(second.ID, "delivered")
		require.Equal(t, 2, distinct(p.inbox.arrivals()))
	})
}

// TestPushEndpointDead: an endpoint that has failed for too long is disabled;
// the log, the record and an event tell so, and it goes on when it is resumed.
func TestPushEndpointDead(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		config := pushConfig(storage, "disable_after 2s\nschedule 1s 1s 1s 1s 1s 1s 1s 1s 1s")
		p := startPushing(t, strings.Replace(config, "format open_platform", "format open_platform\n\t\tlevel DEBUG", 1))
		p.inbox.fails(http.StatusInternalServerError)
		a := p.published(order(p.user, "1001"))
		d := p.awaitMessage(a.ID, "suspended")
		require.GreaterOrEqual(t, len(d.AttemptLog), 3)
		var shown struct{ Status, Reason string }
		require.NoError(t, json.Unmarshal([]byte(p.cli("subscription", "show", p.sub, "--json")), &shown))
		require.Equal(t, "disabled", shown.Status)
		require.Contains(t, shown.Reason, "500")
		p.awaitLog(0, "an endpoint is disabled")
		p.awaitLog(0, `"name":"open_platform_endpoint_disabled"`)
		_, metrics := p.api(http.MethodGet, "/metrics", nil)
		require.Contains(t, string(metrics), `caddy_open_platform_push_endpoints{state="disabled"} 1`)

		p.inbox.answers(nil)
		p.cli("subscription", "resume", p.sub)
		p.awaitMessage(a.ID, "delivered")
	})
}

// TestPushRefusedAddresses: nothing is pushed to where it must not go.
func TestPushRefusedAddresses(t *testing.T) {
	const storage = "storage sqlite ./data/openplatform.db"
	p := startPushing(t, pushConfig(storage, "schedule 1s"))

	t.Run("redirects are not followed", func(t *testing.T) {
		var followed atomic.Int64
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
		t.Cleanup(elsewhere.Close)
		for i, target := range []string{"http://169.254.169.254/", elsewhere.URL} {
			p.inbox.answers(func(w http.ResponseWriter, _ *arrived) {
				w.Header().Set("Location", target)
				w.WriteHeader(http.StatusFound)
			})
			d := p.awaitMessage(p.published(order(p.user, fmt.Sprint("redirect-", i))).ID, "failed")
			require.Len(t, d.AttemptLog, 2)
			for _, a := range d.AttemptLog {
				require.Equal(t, http.StatusFound, a.Status)
				require.Contains(t, p.inbox.URL, a.Address)
			}
		}
		require.Zero(t, followed.Load())
	})

	t.Run("keys and contents stay out of the log", func(t *testing.T) {
		plants := planted{"content": "planted-order-number"}
		p.inbox.mu.Lock()
		for _, key := range p.inbox.signing {
			plants["signing key"] = strings.TrimPrefix(key, "whsec_")
		}
		p.inbox.mu.Unlock()
		text := p.cli("app", "push-key", "add", p.app.ID, "--environment", "sandbox", "--kind", "encrypt", "--json")
		p.inbox.learn(text)
		plants["encryption key"] = strings.TrimPrefix(pushKey.FindString(text), "whek_")
		require.Len(t, plants, 3)
		d := p.awaitMessage(p.published(order(p.user, plants["content"])).ID, "failed")
		for _, out := range []string{p.cli("subscription", "show", p.sub, "--json"), p.cli("app", "push-key", "list", p.app.ID, "--json"), p.cli("delivery", "show", d.ID, "--json")} {
			plants.absent(t, "an answer of the admin API", out)
		}
		plants.absent(t, "the log", p.log.String())
		delete(plants, "content") // messages are kept
		require.NoError(t, filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			plants.absent(t, path, string(data))
			return err
		}))
	})

	t.Run("addresses that are not public", func(t *testing.T) {
		status, said := p.reload(strings.Replace(pushConfig(storage, "schedule 1s"), "allow 127.0.0.0/8", "", 1))
		require.Equal(t, http.StatusOK, status, said)
		_, stderr, code := p.try("subscription", "create", "--app", p.app.ID, "--environment", "sandbox", "--url", p.inbox.URL, "--topic", "shop.news")
		require.NotZero(t, code)
		require.Contains(t, stderr, "is not https, and the operator does not allow http to this host")
		// One that was made while it was allowed.
		before := len(p.inbox.arrivals())
		d := p.awaitMessage(p.published(order(p.user, "1001")).ID, "failed")
		require.Equal(t, "address_refused", d.AttemptLog[0].Class)
		require.Len(t, p.inbox.arrivals(), before)
	})
}

// TestPublishBySignature: an app of the platform's own publishes from a network
// that may not, others do not.
func TestPublishBySignature(t *testing.T) {
	const storage = "storage sqlite ./data/openplatform.db"
	p := startPushing(t, pushConfig(storage, ""))
	service, stranger := p.newApp(), p.newApp()
	config := strings.Replace(pushConfig(storage, ""), "check_schema", "networks 192.0.2.0/24\n\t\tapps "+service.Key, 1)
	status, said := p.reload(config)
	require.Equal(t, http.StatusOK, status, said)

	url := "http://127.0.0.1:" + p.word("publish") + "/messages"
	body, err := json.Marshal(order(p.user, "1001"))
	require.NoError(t, err)
	signed := func(a app) *http.Request {
		return a.sign(t, call{url: url, body: body, header: http.Header{"Content-Type": {"application/json"}}})
	}
	client := p.plain()
	got := sendAgain(t, client, signed(service))
	require.Equal(t, http.StatusAccepted, got.StatusCode, "%s", got.body)
	p.inbox.awaitCount(1)
	send(t, client, signed(stranger)).refused(t, http.StatusForbidden, "publisher_denied")
	plain, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	send(t, client, plain).refused(t, http.StatusForbidden, "publisher_denied")
	other := service
	other.Secret = stranger.Secret
	send(t, client, signed(other)).refused(t, http.StatusUnauthorized, "signature_invalid")
	require.Len(t, p.deliveries(), 1)
}

// TestPublishByCertificate: a service publishes by a client certificate that
// Caddy verified; nobody gets as far without one, or with a stranger's.
func TestPublishByCertificate(t *testing.T) {
	const storage = "storage sqlite ./data/openplatform.db"
	p := startPushing(t, pushConfig(storage, ""))
	issue := func() (authority string, client tls.Certificate) {
		a, err := testserver.NewAuthority()
		require.NoError(t, err)
		client, err = a.Issue("orders")
		require.NoError(t, err)
		return string(a.PEM), client
	}
	authority, service := issue()
	_, stranger := issue()
	p.write("services.pem", authority)
	config := strings.Replace(pushConfig(storage, ""), "check_schema", "client_certificates", 1)
	config = strings.Replace(config, "http://127.0.0.1:%publish% {", `https://localhost:%publish% {
	tls internal {
		client_auth {
			mode verify_if_given
			trust_pool file services.pem
		}
	}`, 1)
	p.write("Caddyfile", p.fill(config)) // so that it is waited for
	status, said := p.reload(config)
	require.Equal(t, http.StatusOK, status, said)
	p.await()

	url := "https://localhost:" + p.word("publish") + "/messages"
	body, err := json.Marshal(order(p.user, "1001"))
	require.NoError(t, err)
	publish := func(certificates ...tls.Certificate) (*http.Response, error) {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots(), Certificates: certificates}}}
		defer client.CloseIdleConnections()
		return client.Post(url, "application/json", bytes.NewReader(body))
	}
	resp, err := publish()
	require.NoError(t, err)
	got := whole(t, resp)
	got.refused(t, http.StatusForbidden, "publisher_denied")
	require.Contains(t, string(got.body), "with a client certificate")
	if resp, err = publish(stranger); err == nil {
		whole(t, resp).refused(t, http.StatusForbidden, "publisher_denied") // the client did not send it
	}
	require.Empty(t, p.deliveries())

	resp, err = publish(service)
	require.NoError(t, err)
	got = whole(t, resp)
	require.Equal(t, http.StatusAccepted, got.StatusCode, "%s", got.body)
	p.inbox.awaitCount(1)
}
