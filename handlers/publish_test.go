package handlers_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// newsCatalog has a topic of public data, besides APIs.
const newsCatalog = catalogFile + `webhooks:
  news:
    x-open-topic: shop.news
    x-open-user-token: false
    post:
      requestBody: {content: {application/json: {schema: {type: object, required: [title]}}}}
`

// publishCodes are the codes that TestPublishRefusals produces.
var publishCodes = []string{"publisher_denied", "message_invalid", "message_conflict"}

// publishRequest is a request to open_publish from an address.
func publishRequest(address, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/messages", nil)
	r.Host, r.RemoteAddr = "gate.test", address+":4711"
	setBody(r, []byte(body))
	return r
}

// mistakesOf requires a refusal and returns the fields of its mistakes by the
// index of the message.
func mistakesOf(t *testing.T, rec *httptest.ResponseRecorder, status int, code string) map[int]string {
	t.Helper()
	refused(t, rec, status, code)
	var p struct {
		Errors []struct {
			Index         int
			Field, Detail string
		}
	}
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &p))
	mistakes := map[int]string{}
	for _, e := range p.Errors {
		mistakes[e.Index] = e.Field
	}
	return mistakes
}

func TestPublishRefusals(t *testing.T) {
	w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", site: `open_publish /messages {
		environment sandbox
		networks 127.0.0.1 10.0.0.0/8
		check_schema
		max_body 2KiB
	}`}.run(t)
	publish := func(body string) *httptest.ResponseRecorder { return w.do(publishRequest("127.0.0.1", body)) }

	for name, test := range map[string]struct {
		body     string
		status   int
		code     string
		mistakes map[int]string
	}{
		"empty":              {"", 400, "message_invalid", map[int]string{}},
		"no JSON":            {"{", 400, "message_invalid", map[int]string{}},
		"two values":         {`{"topic":"shop.news","data":{"title":"a"}} {}`, 400, "message_invalid", map[int]string{}},
		"an empty array":     {`[]`, 400, "message_invalid", map[int]string{}},
		"an array that ends": {`[{"topic":"shop.news","data":{"title":"a"}}`, 400, "message_invalid", map[int]string{}},
		"an unknown field":   {`[{"topic":"shop.news","data":{"title":"a"},"colour":1}]`, 400, "message_invalid", map[int]string{0: "colour"}},
		"a wrong type":       {`[{"topic":1,"data":{}}]`, 400, "message_invalid", map[int]string{0: "topic"}},
		"no time":            {`[{"topic":"shop.news","data":{"title":"a"},"time":"soon"}]`, 400, "message_invalid", map[int]string{0: "time"}},
		"a time as number":   {`[{"topic":"shop.news","data":{"title":"a"},"time":5}]`, 400, "message_invalid", map[int]string{0: "time"}},
		"the first time":     {`[{"topic":"shop.news","data":{"title":"a"},"time":"0001-01-01T00:00:00Z"}]`, 400, "message_invalid", map[int]string{0: "time"}},
		"a number":           {`5`, 400, "message_invalid", map[int]string{0: "message"}},
		"a wrong field":      {`{"topic":"shop.news","data":{"title":"a"},"user":5}`, 400, "message_invalid", map[int]string{0: "user"}},
		"many mistakes": {
			`[{"topic":"nope","data":{}},{"topic":"shop.news","data":{"title":"a"}},{"topic":5},6,{"topic":"shop.news","data":{}},{"colour":1}]`,
			400, "message_invalid",
			map[int]string{0: "topic", 2: "topic", 3: "message", 4: "data", 5: "colour"},
		},
		"ids that are no UTF-8": {
			"[{\"topic\":\"shop.news\",\"data\":{\"title\":\"a\"},\"id\":\"A\xffB\"},{\"topic\":\"shop.news\",\"data\":{\"title\":\"a\"},\"id\":\"A\xfeB\"}]",
			400, "message_invalid",
			map[int]string{0: "id", 1: "id"},
		},
		"half of a surrogate pair": {
			`[{"topic":"shop.news","data":{"title":"\\ud83d\ud83d\ude00\ud800"},"id":"\\ud800\ud83d\ude00"},{"topic":"shop.news","data":{},"id":"\ud83d\\\ude00"},
				{"topic":"shop.news","data":{},"key":"a\uDFFF"},{"topic":"\ud800\ud800","data":{}},{"topic":"shop.news","data":{},"user":"\\\ud800"},
				{"topic":"shop.news","data":{"title":"a"},"key":"\u00e4\ufffd\uD834\uDD1E"}]`,
			400, "message_invalid",
			map[int]string{1: "id", 2: "key", 3: "topic", 4: "user"},
		},
		"a member twice":       {`[{"topic":"shop.news","data":{"title":"a","title":"b"}},{"topic":"nope","topic":"shop.news","data":{}},{"data":1,"data":1}]`, 400, "message_invalid", map[int]string{1: "topic", 2: "data"}},
		"in another case":      {`[{"Topic":"shop.news","data":{"title":"a"}},{"topic":"shop.news","data":{},"id":"d","ID":"e"}]`, 400, "message_invalid", map[int]string{0: "Topic", 1: "ID"}},
		"one in another case":  {`{"Topic":"shop.news","data":{"title":"a"}}`, 400, "message_invalid", map[int]string{0: "Topic"}},
		"one with an id twice": {`{"topic":"shop.news","data":{"title":"a"},"id":"a","\u0069d":"b"}`, 400, "message_invalid", map[int]string{0: "id"}},
		"no topic":             {`[{"topic":"shop.news","data":{"title":"a"}},{"topic":"nope","data":{}}]`, 400, "message_invalid", map[int]string{1: "topic"}},
		"against the schema":   {`{"topic":"shop.news","data":{}}`, 400, "message_invalid", map[int]string{0: "data"}},
		"too long":             {`{"topic":"shop.news","data":{"title":"` + strings.Repeat("x", 4000) + `"}}`, 413, "body_too_large", map[int]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.mistakes, mistakesOf(t, publish(test.body), test.status, test.code))
		})
	}
	t.Run("no topic at all", func(t *testing.T) {
		require.Contains(t, publish(`{"data":{}}`).Body.String(), `topic: missing; want a topic of the catalog`)
	})
	t.Run("from another network", func(t *testing.T) {
		refused(t, w.do(publishRequest("192.0.2.1", `{}`)), 403, "publisher_denied")
	})
	t.Run("by a browser", func(t *testing.T) {
		r := publishRequest("127.0.0.1", `{"topic":"shop.news","data":{"title":"a"}}`)
		r.Header.Set("Origin", "https://page.example")
		refused(t, w.do(r), 403, "publisher_denied")
	})
	t.Run("by another method", func(t *testing.T) {
		r := publishRequest("127.0.0.1", "")
		r.Method = http.MethodGet
		rec := w.do(r)
		refused(t, rec, 405, "method_not_allowed")
		require.Equal(t, http.MethodPost, rec.Header().Get("Allow"))
	})
	t.Run("an id twice", func(t *testing.T) {
		const first = `{"topic":"shop.news","id":"one","data":{"title":"a"}}`
		rec := publish(first)
		require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
		rec = publish(first)
		require.Equal(t, http.StatusAccepted, rec.Code)
		require.Contains(t, rec.Body.String(), `"duplicate":true`)
		refused(t, publish(`{"topic":"shop.news","id":"one","data":{"title":"b"}}`), 409, "message_conflict")

		// All of them are told.
		require.Equal(t, http.StatusAccepted, publish(strings.ReplaceAll(first, "one", "two")).Code)
		other := func(id string) string { return `{"topic":"shop.news","id":"` + id + `","data":{"title":"c"}}` }
		rec = publish(`[` + strings.Join([]string{other("one"), other("three"), other("two")}, ",") + `]`)
		require.Equal(t, map[int]string{0: "id", 2: "id"}, mistakesOf(t, rec, 409, "message_conflict"))
		require.Contains(t, rec.Body.String(), `"detail":"id: \"`, "a sentence without the kind of the error")
	})
	t.Run("while nothing can be looked up", func(t *testing.T) {
		r := publishRequest("127.0.0.1", `{"topic":"shop.news","data":{"title":"a"}}`)
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		rec := w.do(r.WithContext(ctx))
		refused(t, rec, 503, "store_unavailable")
		require.Contains(t, rec.Body.String(), "nothing was accepted")
	})
	t.Run("what is right", func(t *testing.T) {
		rec := w.do(publishRequest("10.1.2.3", `[{"topic":"shop.news","data":{"title":"a"}},{"topic":"shop.news","data":{"title":"b"}}]`))
		require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
		require.Equal(t, 2, strings.Count(rec.Body.String(), `"msg_`))
	})
}

// TestWhoMayPublish: what an operator allows is all that is allowed. Where nothing is
// said, that is who is on the same machine.
func TestWhoMayPublish(t *testing.T) {
	from := func(address string) *http.Request {
		return publishRequest(address, `{"topic":"shop.news","data":{"title":"a"}}`)
	}
	with := func(c tls.ConnectionState) *http.Request {
		r := from("127.0.0.1")
		r.TLS = &c
		return r
	}
	certificates := []*x509.Certificate{{}}
	w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", site: "open_publish"}
	world := w.run(t)
	for options, requests := range map[string]map[*http.Request]bool{
		"":                             {from("127.0.0.1"): true, from("127.255.0.1"): true, from("[::1]"): true, from("10.0.0.1"): false, from("192.0.2.1"): false},
		"apps ak_00000000000000000000": {from("127.0.0.1"): false},
		"client_certificates": {
			from("127.0.0.1"): false, with(tls.ConnectionState{}): false,
			with(tls.ConnectionState{PeerCertificates: certificates}):                                                      false, // nobody verified it
			with(tls.ConnectionState{PeerCertificates: certificates, VerifiedChains: [][]*x509.Certificate{certificates}}): true,
		},
		"client_certificates\nnetworks 10.0.0.1": {from("10.0.0.1"): true, from("10.0.0.2"): false, from("127.0.0.1"): false},
	} {
		w.site = "open_publish {\nenvironment sandbox\n" + options + "\n}"
		require.NoError(t, world.load(w))
		for r, allowed := range requests {
			rec := world.do(r)
			if !allowed {
				refused(t, rec, http.StatusForbidden, "publisher_denied")
				continue
			}
			require.Equal(t, http.StatusAccepted, rec.Code, "%q from %s: %s", options, r.RemoteAddr, rec.Body)
		}
	}
}

// TestLargestBatch: as many messages as one request may have, and one more.
func TestLargestBatch(t *testing.T) {
	w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", site: "open_publish"}.run(t)
	publish := func(n int) *httptest.ResponseRecorder {
		return w.do(publishRequest("127.0.0.1", "["+strings.Repeat(`{"topic":"shop.news","data":{"title":"a"}},`, n-1)+`{"topic":"shop.news","data":{"title":"b"}}]`))
	}
	rec := publish(pusher.MaxBatch)
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
	require.Equal(t, pusher.MaxBatch, strings.Count(rec.Body.String(), `"msg_`))
	require.Contains(t, refused(t, publish(pusher.MaxBatch+1), http.StatusBadRequest, "message_invalid"), "several requests")
}

// TestPublishAndPullAreRecorded: who publishes or pulls is told by the answer, the
// log, the counters and the error routes as a caller of the gate is. What was sent
// is not in the log.
func TestPublishAndPullAreRecorded(t *testing.T) {
	for name, errors := range map[string]string{
		"with error routes": `handle_errors {
			header X-Code "{http.open_platform.stage} {http.open_platform.error}"
			open_problem
		}`,
		"without": "",
	} {
		t.Run(name, func(t *testing.T) {
			w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", options: `log calls {
				output file DIR/calls.log {
					roll_disabled
				}
				include http.handlers
			}`, site: `
				route {
					metrics /metrics
					open_publish /messages {
						environment sandbox
						networks 127.0.0.1
						check_schema
					}
					open_sign /pull sandbox
					open_messages /pull
				}
			` + errors}.run(t)
			_, c := w.app(platform.Sandbox)
			require.Equal(t, http.StatusAccepted, w.do(publishRequest("127.0.0.1", `{"topic":"shop.news","data":{"title":"a"}}`)).Code)
			answers := []*httptest.ResponseRecorder{
				w.do(publishRequest("127.0.0.1", `[{"topic":"private","data":{}}]`)),
				w.do(publishRequest("192.0.2.1", `{}`)),
				w.do(c.request(t, http.MethodGet, "/pull?limit=0", "")),
			}
			require.Equal(t, http.StatusOK, w.do(c.request(t, http.MethodGet, "/pull", "")).Code)
			logged, err := os.ReadFile(filepath.Join(w.dir, "calls.log"))
			require.NoError(t, err)
			for i, want := range []struct {
				status      int
				stage, code string
			}{
				{http.StatusBadRequest, "publish", "message_invalid"},
				{http.StatusForbidden, "publish", "publisher_denied"},
				{http.StatusBadRequest, "upstream", "request_malformed"},
			} {
				refused(t, answers[i], want.status, want.code)
				if errors != "" {
					require.Equal(t, want.stage+" "+want.code, answers[i].Header().Get("X-Code"))
				}
				id := answers[i].Header().Get("X-Open-Request-Id")
				require.Regexp(t, `(?m)^.*"msg":"call refused: `+want.code+`".*"request_id":"`+id+`"`, string(logged))
			}
			require.NotContains(t, string(logged), "private")
			require.Equal(t, map[string]string{
				"sandbox allowed": "2", "sandbox refused": "3",
				"message_invalid publish": "1", "publisher_denied publish": "1", "request_malformed upstream": "1",
			}, w.counted())
		})
	}
}

// TestPublishSigned: where apps alone may publish, the gate says who calls.
func TestPublishSigned(t *testing.T) {
	w := setup{catalog: newsCatalog, upstream: "127.0.0.1:9", site: `open_publish /messages {
		environment sandbox
		networks 10.0.0.0/8
		apps APP
	}`}
	key := "ak_00000000000000000000"
	w.site = strings.ReplaceAll(w.site, "APP", key)
	world := w.run(t)
	app, caller := world.app(platform.Sandbox)
	const body = `{"topic":"shop.news","data":{"title":"a"}}`
	refused(t, world.do(caller.request(t, http.MethodPost, "/messages", body)), http.StatusForbidden, "publisher_denied")

	w.site = strings.ReplaceAll(w.site, key, app.Key)
	require.NoError(t, world.load(w))
	rec := world.do(caller.request(t, http.MethodPost, "/messages", body))
	require.Equal(t, http.StatusAccepted, rec.Code, rec.Body)
	bad := caller.request(t, http.MethodPost, "/messages", body)
	setBody(bad, []byte(`{"topic":"shop.news","data":{"title":"b"}}`))
	refused(t, world.do(bad), http.StatusUnauthorized, "digest_mismatch")
}

// TestMessagesNeedASignature: without open_sign before it, nobody is told
// anything.
func TestMessagesNeedASignature(t *testing.T) {
	w := newWorld(t, "127.0.0.1:9", "open_messages")
	r := httptest.NewRequest(http.MethodGet, "/v1/messages", nil)
	r.Host, r.RemoteAddr = "gate.test", "127.0.0.1:4711"
	refused(t, w.do(r), http.StatusUnauthorized, "signature_missing")
}

// TestMessages: what an app may ask, and what it may not.
func TestMessages(t *testing.T) {
	w := newWorld(t, "127.0.0.1:9", "open_sign sandbox\nopen_messages")
	_, c := w.app(platform.Sandbox)
	rec := w.do(c.request(t, http.MethodGet, "/v1/messages?limit=5", ""))
	require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	require.JSONEq(t, `{"messages":[],"next":""}`, rec.Body.String())
	for target, body := range map[string]string{
		"/v1/messages?limit=0":                                    "",
		"/v1/messages?limit=501":                                  "",
		"/v1/messages?limit=1&limit=2":                            "",
		"/v1/messages?after=dlv_x":                                "",
		"/v1/messages?colour=red":                                 "",
		"/v1/messages?topic=a" + strings.Repeat("&topic=a", 1000): "",
		"/v1/messages/ack":                                        `{"deliveries":[]}`,
		"/v1/messages/ack#":                                       `{"deliveries":["dlv_x"]}`,
		"/v1/messages/ack##":                                      `{`,
	} {
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		refused(t, w.do(c.request(t, method, strings.TrimRight(target, "#"), body)), http.StatusBadRequest, "request_malformed")
	}
	// What lies within the bounds, just so, is taken.
	ids := func(n int) string {
		return `{"deliveries":["` + strings.Join(slices.Repeat([]string{pusher.DeliveryID{At: 1, ID: 1}.String()}, n), `","`) + `"]}`
	}
	for _, target := range []string{"/v1/messages?limit=1", "/v1/messages?limit=500", "/v1/messages?topic=a" + strings.Repeat("&topic=a", 999)} {
		rec = w.do(c.request(t, http.MethodGet, target, ""))
		require.Equal(t, http.StatusOK, rec.Code, rec.Body)
	}
	rec = w.do(c.request(t, http.MethodPost, "/v1/messages/ack", ids(1000)))
	require.JSONEq(t, `{"acknowledged":0}`, rec.Body.String())
	refused(t, w.do(c.request(t, http.MethodPost, "/v1/messages/ack", ids(1001))), http.StatusBadRequest, "request_malformed")
	rec = w.do(c.request(t, http.MethodGet, "/v1/messages/egress", ""))
	require.JSONEq(t, `{"addresses":[]}`, rec.Body.String())
	refused(t, w.do(c.request(t, http.MethodGet, "/v1/messages/ack", "")), http.StatusMethodNotAllowed, "method_not_allowed")
	require.Equal(t, http.StatusOK, w.do(c.request(t, http.MethodGet, "/v1/msg_queue", "")).Code, "a path of any name has the list")
	for _, one := range []string{"dlv_0036cm8627ac00000000000008", "msg_0036cm8627ac0ihga0a2dq65pk"} {
		refused(t, w.do(c.request(t, http.MethodGet, "/v1/messages/"+one, "")), http.StatusNotFound, "api_unknown")
	}
}
