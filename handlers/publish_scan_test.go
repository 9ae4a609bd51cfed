package handlers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// largeBatch is a request with n messages of 1 KiB.
func largeBatch(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `,{"topic":"trade.order.paid","user":"usr_%d","id":"evt-%d","key":"k%d","data":{"a":"%s"}}`, i, i, i, strings.Repeat("x", 1000))
	}
	b.WriteByte(']')
	b.Bytes()[0] = '['
	return b.Bytes()
}

func BenchmarkReadMessages(b *testing.B) {
	body := largeBatch(1000)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := readMessages(body, platform.Production); err != nil {
			b.Fatal(err)
		}
	}
}

// TestReadMessagesAllocations guards what a message costs to read, and that nothing
// in it makes it cost more than its length.
func TestReadMessagesAllocations(t *testing.T) {
	const messages = 100
	for name, body := range map[string][]byte{
		"batch":          largeBatch(messages),
		"escapes":        []byte(`{"topic":"a","data":{},"id":"` + strings.Repeat(`\n`, 1<<20) + `"}`),
		"unicode":        []byte(`{"topic":"a","data":{},"id":"` + strings.Repeat(`\u00e4`, 1<<18) + `"}`),
		"members inside": []byte(`{"topic":"a","data":{` + strings.Repeat(`"a":"b",`, 1<<17) + `"a":{}}}`),
	} {
		t.Run(name, func(t *testing.T) {
			allocs := testing.AllocsPerRun(5, func() {
				_, _, err := readMessages(body, platform.Production)
				require.NoError(t, err)
			})
			require.LessOrEqual(t, allocs, 12.0*messages)
		})
	}
}

// FuzzCheckMembers compares the scan with encoding/json's own reading of what it
// takes for a message.
func FuzzCheckMembers(f *testing.F) {
	for _, seed := range []string{
		`null`, `{}`, ` { "topic" : "a" , "data" : [ 1 , { "]" : "}\"" } ] , "id" : null } `, `{"topic":"a","topic":"b"}`, `{"t\u006fpic":"a","topic":""}`,
		`{"ID":"a"}`, `{"":1}`, `{"x\"y":1}`, `{"key":"\\ud800"}`, `{"key":"\ud800"}`, `{"key":"\ud83d\ude00\n"}`, `{"key":"\uDE00\uD83D"}`, `{"key":"\ud83d\ud83d\ude00"}`,
		"{\"user\":\"\xff\"}", "{\"data\":\"\xff\\ud800\"}", "{\"\xff\":1}", `{"time":"2027-01-31T08:00:00Z","data":-1.5e3}`, `{"data":"\\"}`, `{"id":"\\\""}`, `{"data":{"id":1},"id":"\u0000"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var m messageBody
		if json.Unmarshal(text, &m) != nil {
			return // none that is ever scanned
		}
		require.Equal(t, slowCheckMembers(t, text), checkMembers(text), "%q", text)
	})
}

// TestCheckMembersOfAnyObject: the same of objects that a fuzzer would be long in
// finding.
func TestCheckMembersOfAnyObject(t *testing.T) {
	quoted := rapid.Map(rapid.SliceOf(rapid.SampledFrom([]string{
		`a`, `"`, `\`, `\\`, `\"`, `\u`, `\ud83d`, `\uDE00`, `\u00e4`, `\n`, `{`, `}`, `[`, `]`, `:`, `,`, "\xff", "ä", ` `, `d8`,
	})), func(parts []string) string {
		return `"` + strings.Join(parts, "") + `"`
	}).Filter(func(s string) bool { return json.Valid([]byte(s)) })
	name := rapid.OneOf(rapid.SampledFrom([]string{`"topic"`, `"user"`, `"data"`, `"id"`, `"key"`, `"\u0069d"`, `"ID"`, `"name"`}), quoted)
	space := rapid.SampledFrom([]string{"", "", " ", "\r\n\t"})
	value := rapid.OneOf(quoted, quoted, rapid.SampledFrom([]string{`null`}))
	inside := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{`[%s,[]]`, `{%s:{}}`, `[[{"a":%s}],-1.5e3]`, `%[1]s`, `true`}).Draw(t, "shape")
	})
	rapid.Check(t, func(t *rapid.T) {
		var members []string
		for range rapid.IntRange(0, 6).Draw(t, "members") {
			n, v := name.Draw(t, "name"), value.Draw(t, "value")
			if shape := inside.Draw(t, "data"); n == `"data"` && strings.Contains(shape, "%") {
				v = fmt.Sprintf(shape, v)
				if !json.Valid([]byte(v)) { // null is no name
					v = "0"
				}
			}
			pad := func() string { return space.Draw(t, "space") }
			members = append(members, pad()+n+pad()+":"+pad()+v+pad())
		}
		text := []byte("{" + strings.Join(members, ",") + "}")
		require.NoError(t, json.Unmarshal(text, new(messageBody)), "%q", text)
		require.Equal(t, slowCheckMembers(t, text), checkMembers(append([]byte(", "), text...)), "%q", text)
	})
}

// escapes are the escapes of a JSON string, pairs as one; half is set for a surrogate
// that has no other half.
var escapes = regexp.MustCompile(`\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(?P<half>u[dD][89a-fA-F])|.)`)

// slowCheckMembers is checkMembers, with encoding/json to find the members.
func slowCheckMembers(t require.TestingT, message []byte) error {
	d := json.NewDecoder(bytes.NewReader(message))
	_, err := d.Token()
	require.NoError(t, err)
	var seen []string
	for d.More() {
		token, err := d.Token()
		require.NoError(t, err)
		name := fmt.Sprint(token)
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
		switch {
		case !slices.Contains(messageMembers[:], name):
			return &platform.FieldError{Field: cmp.Or(name, `""`), Problem: "unknown field", Want: "topic, user, data, id, key, time"}
		case slices.Contains(seen, name):
			return &platform.FieldError{Field: name, Problem: "given more than once", Want: "one value"}
		case name != "data" && !utf8.Valid(value):
			return &platform.FieldError{Field: name, Problem: "it is not UTF-8", Want: "text in UTF-8"}
		case name != "data" && slices.ContainsFunc(escapes.FindAllSubmatch(value, -1), func(found [][]byte) bool { return found[1] != nil }):
			return &platform.FieldError{Field: name, Problem: `it has half of a pair of \u escapes (\ud800 to \udfff)`, Want: "both halves, or the character itself"}
		}
		seen = append(seen, name)
	}
	return nil
}
