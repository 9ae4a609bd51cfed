package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

// topicCatalog is the shop's catalog with topics.
const topicCatalog = shopCatalog + `webhooks:
  order_created:
    x-open-topic: trade.order.created
    x-open-package: trade
    post:
      summary: An order was made
      requestBody:
        content:
          application/json:
            schema: {type: object, required: [order_id], properties: {order_id: {type: string}, status: {type: string}}}
            example: {order_id: "1001"}
  news:
    x-open-topic: shop.news
    x-open-user-token: false
    post:
      summary: News for everybody
      requestBody: {content: {application/json: {schema: {type: object}}}}
`

// pushConfig is a server that publishes, pushes and lets apps pull. Storage is
// the option of that name, more goes into push.
func pushConfig(storage, more string) string {
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
	log {
		format open_platform
	}
	open_platform {
		` + storage + `
		catalog ./shop.openapi.yaml
		push {
			allow 127.0.0.0/8
			` + more + `
		}
	}
}
http://127.0.0.1:%publish% {
	open_publish /messages {
		environment sandbox
		check_schema
	}
}
https://localhost:%site% {
	tls internal
	handle /v1/messages* {
		open_sign sandbox
		open_messages
	}
}
` + authorizationSite
}

// pushing is a server with an app that has an inbox.
type pushing struct {
	*node
	inbox     *inbox
	app       app
	user, sub string
}

// startPushing starts a server, and makes an app that gets messages about a
// merchant.
func startPushing(t *testing.T, config string, flags ...string) *pushing {
	t.Helper()
	return newNode(t).startPushing(config, flags...)
}

// startPushing is the same for a node that is there.
func (n *node) startPushing(config string, flags ...string) *pushing {
	t := n.t
	t.Helper()
	n.openShop()
	n.write("shop.openapi.yaml", n.fill(topicCatalog))
	n.configure(config)
	n.run()
	p := &pushing{node: n, inbox: openInbox(t), app: n.newVendor()}
	p.user = n.newShopkeeper()
	newMerchant(t, n).authorize(n, p.app)
	p.sub = n.subscribe(p.inbox, p.app.ID, append([]string{"--topic", "trade.order.created"}, flags...)...)
	return p
}

var subscriptionID = regexp.MustCompile(`sub_[0-9A-Za-z]{20}`)

// subscribe makes a subscription and has its URL answer the challenge.
func (n *node) subscribe(b *inbox, app string, flags ...string) string {
	n.t.Helper()
	args := append([]string{"subscription", "create", "--app", app, "--environment", "sandbox", "--url", b.URL + "/in", "--json"}, flags...)
	text := n.cli(args...)
	b.learn(text)
	id := subscriptionID.FindString(text)
	require.NotEmpty(n.t, id, text)
	n.cli("subscription", "verify", id)
	return id
}

// publish publishes a body and returns the status and the answer.
func (n *node) publish(body any) (int, []byte) {
	n.t.Helper()
	status, answer, err := n.tryPublish(body)
	require.NoError(n.t, err)
	return status, answer
}

func (n *node) tryPublish(body any) (int, []byte, error) {
	data, ok := body.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	resp, err := adminClient.Post("http://127.0.0.1:"+n.word("publish")+"/messages", "application/json", bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	_, err = answer.ReadFrom(resp.Body)
	return resp.StatusCode, answer.Bytes(), err
}

// order is a message about an order of the merchant.
func order(user, id string) map[string]any {
	return map[string]any{"topic": "trade.order.created", "user": user, "data": map[string]any{"order_id": id, "status": "paid"}}
}

// accepted is the answer to one message.
type accepted struct {
	ID         string `json:"id"`
	Deliveries int    `json:"deliveries"`
	Duplicate  bool   `json:"duplicate"`
}

// published publishes a message that must be accepted.
func (n *node) published(message any) accepted {
	n.t.Helper()
	status, body := n.publish(message)
	require.Equal(n.t, http.StatusAccepted, status, "%s", body)
	var a accepted
	require.NoError(n.t, json.Unmarshal(body, &a))
	return a
}

// delivery is what the platform tells of a delivery.
type delivery struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Cause      string    `json:"cause"`
	Attempts   int       `json:"attempts"`
	Origin     string    `json:"origin"`
	LastStatus int       `json:"last_status"`
	LastError  string    `json:"last_error"`
	DueAt      time.Time `json:"due_at"`
	AttemptLog []struct {
		Number     int     `json:"number"`
		Cause      string  `json:"cause"`
		Status     int     `json:"status"`
		Class      string  `json:"error_class"`
		Address    string  `json:"address"`
		Response   string  `json:"response"`
		Node       string  `json:"node"`
		DurationMS float64 `json:"duration_ms"`
	} `json:"attempt_log"`
	Body json.RawMessage `json:"body"`
}

func (n *node) deliveries(flags ...string) []delivery {
	n.t.Helper()
	var page struct {
		Deliveries []delivery `json:"deliveries"`
	}
	require.NoError(n.t, json.Unmarshal([]byte(n.cli(append([]string{"delivery", "list", "--json"}, flags...)...)), &page))
	return page.Deliveries
}

func (n *node) delivery(id string) delivery {
	n.t.Helper()
	var d delivery
	require.NoError(n.t, json.Unmarshal([]byte(n.cli("delivery", "show", id, "--json")), &d))
	return d
}

// awaitState waits until a delivery is in the state.
func (n *node) awaitState(id, state string) delivery {
	n.t.Helper()
	var d delivery
	eventually(n.t, id+" becomes "+state, func() error {
		if d = n.delivery(id); d.State != state {
			return fmt.Errorf("it is %s", d.State)
		}
		return nil
	})
	return d
}

// onStores runs a test on each kind of store.
func onStores(t *testing.T, test func(t *testing.T, storage string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, "storage sqlite ./data/openplatform.db") })
	t.Run("postgres", func(t *testing.T) { test(t, "storage postgres "+testserver.NewPostgres(t).Database(t)) })
}

func TestPush(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		p := startPushing(t, pushConfig(storage, "schedule 1s 1s\nnode first"))
		t.Run("a message arrives", func(t *testing.T) {
			a := p.published(order(p.user, "1001"))
			require.Equal(t, 1, a.Deliveries)
			got := p.inbox.awaitCount(1)[0]
			require.Equal(t, a.ID, got.ID)
			require.Equal(t, "trade.order.created", got.Topic)
			require.Equal(t, "auto", got.Cause)
			require.Equal(t, "1", got.Attempt)
			require.Equal(t, "1.0", got.Event.SpecVersion)
			require.Equal(t, p.user, got.Event.Subject)
			require.Equal(t, p.app.Key, got.Event.AppKey)
			require.JSONEq(t, `{"order_id":"1001","status":"paid"}`, string(got.Event.Data))

			d := p.awaitState(got.Delivery, "delivered")
			require.Len(t, d.AttemptLog, 1)
			require.Equal(t, http.StatusNoContent, d.AttemptLog[0].Status)
			require.Equal(t, "first", d.AttemptLog[0].Node)
			require.Contains(t, p.inbox.URL, d.AttemptLog[0].Address)
			require.Contains(t, string(d.Body), `"encrypt"`)
			require.Contains(t, p.cli("message", "show", a.ID), "1001")
		})
		t.Run("each manual push is an attempt", func(t *testing.T) {
			id := p.inbox.arrivals()[0].Delivery
			p.cli("delivery", "push", id)
			p.cli("delivery", "push", id)
			got := p.inbox.awaitCount(3)
			require.Equal(t, "manual", got[2].Cause)
			require.Equal(t, 1, distinct(got))
			eventually(t, "three attempts are recorded", func() error {
				if d := p.delivery(id); len(d.AttemptLog) != 3 || d.State != "delivered" {
					return fmt.Errorf("%s after %d attempts", d.State, len(d.AttemptLog))
				}
				return nil
			})
		})
		t.Run("a message with the same id is the same message", func(t *testing.T) {
			m := order(p.user, "1002")
			m["id"] = "order-1002"
			first := p.published(m)
			again := p.published(m)
			require.True(t, again.Duplicate)
			require.Equal(t, first.ID, again.ID)
			m["data"] = map[string]any{"order_id": "other"}
			status, body := p.publish(m)
			require.Equal(t, http.StatusConflict, status)
			require.Contains(t, string(body), "message_conflict")
			p.inbox.awaitCount(4)
		})
		t.Run("a batch is taken as a whole or not at all", func(t *testing.T) {
			bad := order(p.user, "1004")
			bad["topic"] = "no.topic"
			status, body := p.publish([]any{order(p.user, "1003"), bad, order("", "1005"), map[string]any{"topic": "trade.order.created", "user": p.user, "data": map[string]any{}}})
			require.Equal(t, http.StatusBadRequest, status)
			var problem struct {
				Code   string
				Errors []struct {
					Index         int
					Field, Detail string
				}
			}
			require.NoError(t, json.Unmarshal(body, &problem))
			require.Equal(t, "message_invalid", problem.Code)
			require.Len(t, problem.Errors, 3, "%s", body)
			require.Equal(t, "topic", problem.Errors[0].Field)
			require.Equal(t, "user", problem.Errors[1].Field)
			status, body = p.publish([]any{order(p.user, "1003"), order(p.user, "1004")})
			require.Equal(t, http.StatusAccepted, status, "%s", body)
			p.inbox.awaitCount(6)
		})
		t.Run("what failed is pushed again", func(t *testing.T) {
			p.inbox.fails(http.StatusInternalServerError)
			a := p.published(order(p.user, "1006"))
			eventually(t, "it fails for good", func() error {
				if list := p.deliveries("--message", a.ID, "--state", "failed"); len(list) != 1 || list[0].Attempts != 3 {
					return fmt.Errorf("%+v", list)
				}
				return nil
			})
			require.Contains(t, p.log.String(), "a delivery failed for good")
			p.inbox.fails(http.StatusOK)
			out := p.cli("push", "repush", "--app", p.app.ID, "--since", "1h", "--json")
			require.Contains(t, out, `"done": 1`)
			d := p.awaitState(p.deliveries("--message", a.ID)[0].ID, "delivered")
			require.Equal(t, "repush", d.AttemptLog[len(d.AttemptLog)-1].Cause)
		})
		t.Run("a reset pushes everything again", func(t *testing.T) {
			before := len(p.inbox.arrivals())
			total := len(p.deliveries("--app", p.app.ID))
			out := p.cli("push", "reset", "--app", p.app.ID, "--since", "1h", "--json")
			require.Contains(t, out, fmt.Sprintf(`"done": %d`, total))
			got := p.inbox.awaitCount(before + total)
			require.Equal(t, "reset", got[before].Cause)
			require.Equal(t, distinct(got[:before]), distinct(got), "the ids stay the same")
			var linked int
			for _, d := range p.deliveries("--app", p.app.ID) {
				if d.Origin != "" {
					linked++
				}
			}
			require.Equal(t, total, linked)
		})
	})
}
