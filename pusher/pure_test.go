package pusher

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestIDs(t *testing.T) {
	number := rapid.Int64Min(0)
	rapid.Check(t, func(t *rapid.T) {
		a, b := MessageID{number.Draw(t, "at"), number.Draw(t, "id")}, MessageID{number.Draw(t, "at"), number.Draw(t, "id")}
		got, err := ParseMessageID(a.String())
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Len(t, a.String(), 30)
		before := a.At < b.At || a.At == b.At && a.ID < b.ID
		require.Equal(t, before, a.String() < b.String(), "texts sort as the numbers do")
		d, err := ParseDeliveryID(DeliveryID(a).String())
		require.NoError(t, err)
		require.Equal(t, DeliveryID(a), d)
		_, err = ParseDeliveryID(a.String())
		require.Error(t, err)
	})
	good := MessageID{1, 2}.String()
	for _, s := range []string{"", "msg_", good[:29], good + "0", strings.ToUpper(good), "dlv_" + good[4:], "msg_zzzzzzzzzzzzzzzzzzzzzzzzzz", "msg_vvvvvvvvvvvvvvvvvvvvvvvvvv", good[:29] + "1"} {
		_, err := ParseMessageID(s)
		require.Error(t, err, s)
	}
	_, err := ParseDeliveryID("dlv_zzzzzzzzzzzzzzzzzzzzzzzzzz")
	require.EqualError(t, err, `id: "dlv_zzzzzzzzzzzzzzzzzzzzzzzzzz" is none; want dlv_ and 26 characters of 0-9 and a-v, copied from a list`)
}

func FuzzParseMessageID(f *testing.F) {
	f.Add(MessageID{1, 2}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseMessageID(s); err == nil && id.String() != s {
			t.Errorf("%q is %v, which is %q", s, id, id.String())
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "7\t": 7 * time.Second, "0": time.Second, "86400": 24 * time.Hour, "86401": 24 * time.Hour,
		"99999999999999999999999": 24 * time.Hour, "-1": 0, "1.5": 0, "soon": 0,
		now.Add(time.Minute).Format(http.TimeFormat):      time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat):     time.Second,
		now.Add(1000 * time.Hour).Format(http.TimeFormat): 24 * time.Hour,
	} {
		require.Equal(t, want, retryAfter(header, now), header)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT")
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, time.Unix(1e9, 0)); d != 0 && (d < minRetryAfter || d > maxRetryAfter) {
			t.Errorf("%q: %v", s, d)
		}
	})
}

func FuzzPlainText(f *testing.F) {
	f.Add("a\x00b\xff" + strings.Repeat("字", 500))
	f.Fuzz(func(t *testing.T, s string) {
		got := plainText(s)
		if !utf8.ValidString(got) || len(got) > maxProblem || strings.ContainsAny(got, "\x00\n\r") {
			t.Errorf("%q", got)
		}
	})
}

func TestPlan(t *testing.T) {
	waits := []time.Duration{time.Second, time.Minute}
	p := newPlan(&platform.Subscription{}, waits)
	for _, c := range []struct {
		tries       int
		asked, held time.Duration
		random      float64
		wait        time.Duration
		again       bool
	}{
		{1, 0, -1, 0.5, time.Second, true},
		{1, 0, -1, 0, 800 * time.Millisecond, true},
		{2, 0, -1, 1, 72 * time.Second, true},
		{3, 0, -1, 0.5, 0, false},
		{0, 0, -1, 0.5, 0, false},
		{1, time.Hour, -1, 0.5, time.Hour, true},
		{3, time.Hour, -1, 0.5, 0, false},
		{1, 0, 100 * time.Hour, 0.5, time.Second, true}, // not ordered
	} {
		wait, again := p.next(c.tries, c.asked, c.held, c.random)
		require.Equal(t, c.wait, wait, c)
		require.Equal(t, c.again, again, c)
	}
	p = newPlan(&platform.Subscription{Ordered: true, HoldFor: time.Minute, Schedule: []time.Duration{time.Hour}}, waits)
	wait, again := p.next(1, time.Hour, 20*time.Second, 0.5)
	require.True(t, again)
	require.Equal(t, 40*time.Second, wait)
	_, again = p.next(1, 0, time.Minute, 0.5)
	require.False(t, again)
}

func TestCircuitStates(t *testing.T) {
	now := time.Unix(1e9, 0)
	var c circuit
	for range openAfter - 1 {
		c.fails(now, 0)
		require.False(t, c.open())
	}
	c.fails(now, 0)
	require.True(t, c.open())
	require.Equal(t, firstProbe, c.wait(now))
	c.fails(now, 0) // one that was under way
	require.Equal(t, firstProbe, c.wait(now))
	want := firstProbe
	for range 10 {
		now = now.Add(c.wait(now))
		require.Zero(t, c.wait(now))
		c.fails(now, 0)
		want = min(2*want, lastProbe)
		require.Equal(t, want, c.wait(now))
	}
	c.works()
	require.False(t, c.open())
	require.Zero(t, c.wait(now))
	c.throttles(now, time.Hour, 0)
	require.Equal(t, lastProbe, c.wait(now))
	c.throttles(now, 0, 0)
	require.Equal(t, lastProbe, c.wait(now), "a shorter pause does not end a longer one")

	c.works()
	want = firstProbe
	for range 3 {
		for range 8 { // of which all were under way
			c.throttles(now, 0, 0)
		}
		require.Equal(t, want, c.wait(now))
		now = now.Add(want)
		want *= 2
	}
	require.Equal(t, 12*time.Second, spread(10*time.Second, 1), "nodes probe at different times, and none much later")
}

func TestConditions(t *testing.T) {
	const data = `{"status":"paid","amount":19.90,"id":9007199254740993,"big":1e400,"tags":["a","b"],"a/b":{"~":null},"ok":true,"lines":[{"sku":"x1"}]}`
	for _, c := range []struct {
		pointer, op, value string
		want               bool
	}{
		{"/status", "eq", `"paid"`, true},
		{"/status", "eq", `"Paid"`, false},
		{"/status", "ne", `"paid"`, false},
		{"/status", "ne", `"x"`, true},
		{"/none", "ne", `"x"`, true},
		{"/none", "eq", `null`, false},
		{"/none", "exists", `true`, false},
		{"/none", "exists", `false`, true},
		{"/status", "exists", ``, true},
		{"/a~1b/~0", "exists", `true`, true},
		{"/a~1b/~0", "eq", `null`, true},
		{"/status", "in", `["new","paid"]`, true},
		{"/status", "in", `["new"]`, false},
		{"/amount", "eq", `19.9`, true},
		{"/amount", "gt", `19.9`, false},
		{"/amount", "ge", `19.9`, true},
		{"/amount", "ge", `20`, false},
		{"/amount", "lt", `20`, true},
		{"/amount", "lt", `19.9`, false},
		{"/amount", "le", `19`, false},
		{"/amount", "le", `19.9`, true},
		{"/amount", "gt", `"19"`, false},
		{"/id", "eq", `9007199254740993`, true},
		{"/id", "eq", `9007199254740992`, false},
		{"/big", "gt", `1`, false},
		{"/status", "gt", `"open"`, true},
		{"/status", "prefix", `"pa"`, true},
		{"/status", "prefix", `1`, false},
		{"/lines/0/sku", "eq", `"x1"`, true},
		{"/lines/1/sku", "exists", `true`, false},
		{"/lines/00/sku", "exists", `true`, false},
		{"/lines/-/sku", "exists", `true`, false},
		{"/tags", "eq", `["a","b"]`, false},
		{"/ok", "eq", `true`, true},
		{"/ok", "eq", `1`, false},
		{"", "exists", `true`, true},
	} {
		f, err := newFilter(platform.MessageFilter{Conditions: []platform.Condition{{Pointer: c.pointer, Op: c.op, Value: json.RawMessage(c.value)}}})
		require.NoError(t, err)
		require.Equal(t, c.want, f.takes("u", &document{raw: []byte(data)}), "%s %s %s", c.pointer, c.op, c.value)
	}
	for _, c := range []platform.Condition{{Pointer: "status", Op: "eq", Value: []byte("1")}, {Pointer: "/a", Op: "like", Value: []byte("1")}, {Pointer: "/a", Op: "in", Value: []byte("1")}, {Pointer: "/a", Op: "eq", Value: []byte("{")}} {
		_, err := newCondition(c)
		require.Error(t, err, c)
	}
	f, err := newFilter(platform.MessageFilter{Users: []string{"m2", "m1"}, Conditions: []platform.Condition{{Pointer: "/n", Op: "gt", Value: []byte("1")}, {Pointer: "/n", Op: "lt", Value: []byte("3")}}})
	require.NoError(t, err)
	require.True(t, f.takes("m1", &document{raw: []byte(`{"n":2}`)}))
	require.False(t, f.takes("m1", &document{raw: []byte(`{"n":3}`)}))
	require.False(t, f.takes("m3", &document{raw: []byte(`{"n":2}`)}))
	require.True(t, new(filter).takes("", &document{}))
}

func FuzzCondition(f *testing.F) {
	f.Add("/a/0", "eq", `1`, `{"a":[1]}`)
	f.Add("", "in", `[{}]`, `1`)
	f.Fuzz(func(t *testing.T, pointer, op, value, data string) {
		c, err := newCondition(platform.Condition{Pointer: pointer, Op: op, Value: json.RawMessage(value)})
		if err != nil || !json.Valid([]byte(data)) {
			return
		}
		v, _ := decode([]byte(data))
		got := c.holds(v)
		if c.op == "eq" {
			c.op = "ne"
			if c.holds(v) == got {
				t.Errorf("both equal and not")
			}
		}
	})
}

// TestFIFO compares the queue with a list.
func TestFIFO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f fifo[int]
		var model []int
		for i := range rapid.IntRange(0, 300).Draw(t, "steps") {
			if len(model) > 0 && rapid.Bool().Draw(t, "pop") {
				require.Equal(t, model[0], f.pop())
				model = model[1:]
			} else {
				f.push(i)
				model = append(model, i)
			}
			require.Equal(t, len(model), f.size())
		}
	})
}

// TestDirectory compares changes one by one with loading everything.
func TestDirectory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDirectory(nil, nil)
		model := make(map[uint64]platform.Subscriber)
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			n := rapid.Uint64Range(1, 6).Draw(t, "app")
			if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
				delete(model, n)
				d = d.with(n, nil)
				continue
			}
			var subs []platform.Subscription
			for range rapid.IntRange(0, 2).Draw(t, "subscriptions") {
				subs = append(subs, platform.Subscription{URL: "https://x", Topics: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, "topics")})
			}
			app := testApp(n, subs...)
			model[n] = app
			s, err := newSubscriber(&app)
			require.NoError(t, err)
			d = d.with(n, s)
		}
		var all []platform.Subscriber
		for _, s := range model {
			all = append(all, s)
		}
		want := newDirectory(all, nil)
		require.Len(t, d.topics, len(want.topics))
		numbers := func(list []*endpoint) (out []uint64) {
			for _, e := range list {
				out = append(out, e.Number)
			}
			return out
		}
		for k := range want.topics {
			require.Equal(t, numbers(want.topics[k]), numbers(d.topics[k]))
			require.True(t, slices.IsSorted(numbers(d.topics[k])))
		}
		for n := uint64(1); n <= 6; n++ {
			require.Equal(t, want.app(n) == nil, d.app(n) == nil)
			for i := range uint64(2) {
				require.Equal(t, want.endpoint(10*n+i) == nil, d.endpoint(10*n+i) == nil)
			}
		}
	})
}
