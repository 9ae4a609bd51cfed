package signing

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	formType = "application/x-www-form-urlencoded;charset=UTF-8"
	jsonType = "application/json"
)

// noon is 2024-03-01 12:30:45 in GMT+8.
var noon = time.Unix(1709267445, 0)

// call builds a request; contentType is empty when there is no body.
func call(method, target, contentType, body string) *Request {
	path, query, _ := strings.Cut(target, "?")
	r := &Request{
		Method: method, Scheme: "https", Authority: "open.example.com", Path: path, RawQuery: query,
		Header: http.Header{}, ContentLength: int64(len(body)), Body: []byte(body), BodyRead: true,
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func claimOf(t *testing.T, dialect string, r *Request) (*Claim, error) {
	t.Helper()
	set, err := NewSet(dialect)
	require.NoError(t, err)
	c := new(Claim)
	return c, set.Claim(c, r)
}

func secretKey(t *testing.T, dialect, method, secret string) *Key {
	t.Helper()
	k, err := NewSecretKey(dialect, method, 1, []byte(secret))
	require.NoError(t, err)
	return k
}

func checkParams(t *testing.T, dialect, method, secret string, r *Request, now time.Time) error {
	t.Helper()
	c, err := claimOf(t, dialect, r)
	if err != nil {
		return err
	}
	_, err = c.Verify(r, []*Key{secretKey(t, dialect, method, secret)}, Options{Now: now})
	return err
}

func md5Hex(text string) string {
	sum := md5.Sum([]byte(text))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func hmacHex(secret, text string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func TestParamClaimFields(t *testing.T) {
	tests := map[string]struct {
		r    *Request
		want Claim
	}{
		"aop1688": {
			call("POST", "/openapi/param2/1/com.alibaba.trade/alibaba.trade.get/4310001?access_token=tok&_aop_timestamp=1709267445000&_aop_signature=00", "", ""),
			Claim{AppKey: "4310001", APIName: "alibaba.trade.get", APIVersion: "1", Token: "tok", Time: noon},
		},
		"top": {
			call("GET", "/router/rest?method=taobao.item.get&app_key=ak&session=tok&timestamp=2024-03-01+12%3A30%3A45&sign=00", "", ""),
			Claim{AppKey: "ak", APIName: "taobao.item.get", Token: "tok", Time: noon, Method: "md5"},
		},
		"dewu": {
			call("POST", "/dop/api", jsonType, `{"app_key":"ak","access_token":"tok","timestamp":1709267445000,"sign":"00"}`),
			Claim{AppKey: "ak", Token: "tok", Time: noon},
		},
		"jd": {
			call("GET", "/routerjson?method=jd.get&app_key=ak&access_token=tok&timestamp=2024-03-01+05%3A30%3A45.000%2B0100&sign=00", "", ""),
			Claim{AppKey: "ak", APIName: "jd.get", Token: "tok", Time: noon},
		},
		"pdd": {
			call("POST", "/api/router", formType, "type=pdd.get&client_id=ak&access_token=tok&timestamp=1709267445&sign=00"),
			Claim{AppKey: "ak", APIName: "pdd.get", Token: "tok", Time: noon},
		},
		"doudian": {
			call("POST", "/order/list?method=order.list&v=2&app_key=ak&access_token=tok&timestamp=2024-03-01+12%3A30%3A45&sign_method=hmac-sha256&sign=00", jsonType, "{}"),
			Claim{AppKey: "ak", APIName: "order.list", Token: "tok", Time: noon, Method: "hmac-sha256"},
		},
		"kuaishou": {
			call("GET", "/open/order?method=open.order&appkey=ak&access_token=tok&timestamp=1709267445000&signMethod=HMAC_SHA256&sign=AAAA", "", ""),
			Claim{AppKey: "ak", APIName: "open.order", Token: "tok", Time: noon, Method: "hmac-sha256"},
		},
		"lazada": {
			call("GET", "/rest/order/get?app_key=ak&access_token=tok&timestamp=1709267445000&sign_method=sha256&sign=00", "", ""),
			Claim{AppKey: "ak", Endpoint: "/rest", Token: "tok", Time: noon},
		},
		"aliexpress": {
			call("GET", "/sync?method=aliexpress.get&app_key=ak&session=tok&timestamp=1709267445000&sign_method=sha256&sign=00", "", ""),
			Claim{AppKey: "ak", APIName: "aliexpress.get", Token: "tok", Time: noon},
		},
		"shopee": {
			call("GET", "/api/v2/order/get?partner_id=ak&access_token=tok&timestamp=1709267445&sign=00", "", ""),
			Claim{AppKey: "ak", Token: "tok", Time: noon},
		},
	}
	all, err := NewSet(Names()...)
	require.NoError(t, err)
	for dialect, tt := range tests {
		t.Run(dialect, func(t *testing.T) {
			var c Claim
			require.NoError(t, all.Claim(&c, tt.r), "the first of all dialects must be the right one")
			require.True(t, c.Time.Equal(tt.want.Time), "%s", c.Time)
			c.Time, c.state, tt.want.Dialect = tt.want.Time, claimState{}, dialect
			require.Equal(t, tt.want, c)
		})
	}
	require.Len(t, tests, len(paramTable))
}

func TestParamRefusals(t *testing.T) {
	const top = "/rest?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=00"
	gzipped := call("POST", "/api", formType, "type=t&client_id=ak&timestamp=1&sign=00")
	gzipped.Header.Set("Content-Encoding", "gzip")
	twoTypes := call("POST", top, "text/xml", "<a/>")
	twoTypes.Header.Add("Content-Type", formType)
	unread := call("POST", top, "text/xml", "<a/>")
	unread.Body, unread.BodyRead = nil, false
	unreadJSON := call("POST", "/d", jsonType, `{"a":1}`)
	unreadJSON.Body, unreadJSON.BodyRead = nil, false
	chunked := call("POST", "/api", formType, "")
	chunked.BodyRead, chunked.ContentLength = false, -1
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "&a%d=", i)
	}
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)

	tests := []struct {
		name, dialect string
		r             *Request
		want          error
	}{
		{"no signature", "top", call("GET", "/rest?method=m&app_key=ak", "", ""), ErrMissing},
		{"empty signature", "top", call("GET", "/rest?method=m&app_key=ak&sign=", "", ""), ErrMissing},
		{"signature no hex", "top", call("GET", "/rest?method=m&app_key=ak&sign=zz", "", ""), ErrMalformed},
		{"signature no base64", "kuaishou", call("GET", "/o?appkey=ak&signMethod=HMAC_SHA256&sign=A%0AAAA", "", ""), ErrMalformed},
		{"twice in the query", "top", call("GET", top+"&a=1&a=1", "", ""), ErrMalformed},
		{"twice, once escaped", "top", call("GET", top+"&a=1&%61=1", "", ""), ErrMalformed},
		{"in query and form", "top", call("POST", top+"&a=1", formType, "a=2"), ErrMalformed},
		{"signature twice", "top", call("POST", top, formType, "sign=00"), ErrMalformed},
		{"bad escape in value", "top", call("GET", top+"&a=%4", "", ""), ErrMalformed},
		{"bad escape in name", "top", call("GET", top+"&%zz=4", "", ""), ErrMalformed},
		{"no name", "top", call("GET", top+"&=4", "", ""), ErrMalformed},
		{"too many", "top", call("GET", top+many.String(), "", ""), ErrMalformed},
		{"unknown method", "top", call("GET", top+"&sign_method=sha1", "", ""), ErrMethod},
		{"method of another platform", "lazada", call("GET", "/rest/a?app_key=ak&timestamp=1&sign_method=md5&sign=00", "", ""), ErrMethod},
		{"no time", "top", call("GET", "/rest?method=m&app_key=ak&sign=00", "", ""), ErrTimestamp},
		{"time of another form", "jd", call("GET", "/rest?method=m&app_key=ak&timestamp=2024-03-01T12:30:45Z&sign=00", "", ""), ErrMalformed},
		{"time with a fraction", "doudian", call("GET", "/rest?method=m&v=2&app_key=ak&timestamp=2024-03-01+12:30:45.5&sign=00", "", ""), ErrMalformed},
		{"time with a sign", "pdd", call("GET", "/rest?client_id=ak&timestamp=-1&sign=00", "", ""), ErrMalformed},
		{"time too long", "pdd", call("GET", "/rest?client_id=ak&timestamp=1709267445170926744517092674451&sign=00", "", ""), ErrMalformed},
		{"no interface", "top", call("GET", "/rest?app_key=ak&timestamp=2024-03-01+12:30:45&sign=00", "", ""), ErrMalformed},
		{"time of another dialect", "top", call("GET", "/rest?method=m&app_key=ak&timestamp=1709267445000&sign=00", "", ""), ErrMalformed},
		{"no version", "doudian", call("POST", "/o?method=m&app_key=ak&timestamp=1&sign=00", jsonType, "{}"), ErrMalformed},
		{"empty app key", "top", call("GET", "/rest?method=m&app_key=&timestamp=2024-03-01+12%3A30%3A45&sign=00", "", ""), ErrMalformed},
		{"compressed form", "pdd", gzipped, ErrMalformed},
		{"several content types", "top", twoTypes, ErrMalformed},
		{"JSON body that pdd does not sign", "pdd", call("POST", "/api?client_id=ak&timestamp=1&sign=00", jsonType, "{}"), ErrMalformed},
		{"text body that dewu does not sign", "dewu", call("POST", "/api?app_key=ak&timestamp=1&sign=00", "text/plain", "{}"), ErrMalformed},
		{"body not read", "top", unread, ErrBodyNeeded},
		{"body of unknown length", "pdd", chunked, ErrBodyNeeded},
		{"JSON body not read", "dewu", unreadJSON, ErrBodyNeeded},
		{"path of five parts", "aop1688", call("GET", "/param2/1/ns/api/v/ak?_aop_signature=00", "", ""), ErrMalformed},
		{"path with an empty part", "aop1688", call("GET", "/param2/1//api/ak?_aop_signature=00", "", ""), ErrMalformed},
		{"no app at all", "aop1688", call("GET", "/auth?_aop_signature=00", "", ""), ErrMalformed},
		{"two param_json", "doudian", call("POST", "/o?method=m&v=2&app_key=ak&timestamp=1&param_json=1&sign=00", jsonType, "{}"), ErrMalformed},
		{"nested duplicate", "dewu", call("POST", "/d", jsonType, `{"app_key":"ak","a":{"b":1,"c":[{"d":1,"\u0064":2}]},"sign":"00"}`), ErrMalformed},
		{"query and member", "dewu", call("POST", "/d?a=1", jsonType, `{"app_key":"ak","a":1,"sign":"00"}`), ErrMalformed},
		{"deep JSON", "dewu", call("POST", "/d", jsonType, `{"app_key":"ak","a":`+deep+`,"sign":"00"}`), ErrMalformed},
		{"no object", "dewu", call("POST", "/d", jsonType, `["app_key","sign"]`), ErrMalformed},
		{"cut JSON", "dewu", call("POST", "/d", jsonType, `{"app_key":"ak","sign":"00"`), ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := claimOf(t, tt.dialect, tt.r)
			require.ErrorIs(t, err, tt.want)
		})
	}
}

// TestMethodOfAnotherDialect: a call of top whose time has the form of another
// dialect is told so.
func TestMethodOfAnotherDialect(t *testing.T) {
	for timestamp, want := range map[string]string{
		"1709267445000":                  `sign_method "hmac-sha256" is none of aliexpress, whose calls have: sign_method, and timestamp in milliseconds`,
		"2024-03-01+12:30:45.000%2B0800": `sign_method "hmac-sha256" is none of jd, whose calls have: method, and timestamp as yyyy-MM-dd HH:mm:ss.SSSZ`,
	} {
		err := mustSet(t, Names()...).Claim(new(Claim), call("GET", "/r?method=m&app_key=ak&sign_method=hmac-sha256&sign=00&timestamp="+timestamp, "", ""))
		require.ErrorIs(t, err, ErrMethod)
		require.ErrorContains(t, err, want)
	}
}

// TestBodyKind: what a dialect reads a body as decides what of it is signed.
func TestBodyKind(t *testing.T) {
	const form, upper, json, xml = formType, " Application/X-WWW-Form-URLencoded ; charset=utf-8", "application/vnd.shop+json; charset=utf-8", "text/xml"
	for _, test := range []struct {
		rule      bodyRule
		mediaType string
		want      bodyKind
	}{
		{bodyForm, form, bodyPairs},
		{bodyForm, upper, bodyPairs},
		{bodyForm, json, bodyOpaque},
		{bodyFormOrRaw, upper, bodyPairs},
		{bodyFormOrRaw, json, bodyOpaque},
		{bodyFormOrJSON, form, bodyPairs},
		{bodyFormOrJSON, jsonType, bodyMembers},
		{bodyFormOrJSON, json, bodyMembers},
		{bodyFormOrJSON, xml, bodyOpaque},
		{bodyFormOrJSON, "", bodyOpaque},
		{bodyWhole, form, bodyOpaque},
		{bodyWhole, jsonType, bodyOpaque},
		{bodyUnsigned, form, bodyOpaque},
	} {
		require.Equal(t, test.want, test.rule.kind(call("POST", "/", test.mediaType, "a=1")), "%d %q", test.rule, test.mediaType)
	}
	empty := call("POST", "/", formType, "")
	empty.ContentLength = -1
	require.Equal(t, bodyAbsent, bodyForm.kind(empty), "a body that was read and is empty is none")
	empty.BodyRead = false
	require.Equal(t, bodyPairs, bodyForm.kind(empty))
}

// TestParamToken: the dialect's own parameter comes first, and access_token
// serves where there is none.
func TestParamToken(t *testing.T) {
	const top = "/r?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=ab"
	for query, want := range map[string]string{
		"": "", "&session=s": "s", "&access_token=a": "a", "&access_token=a&session=s": "s", "&session=&access_token=a": "a",
	} {
		c, err := claimOf(t, "top", call("GET", top+query, "", ""))
		require.NoError(t, err)
		require.Equal(t, want, c.Token, query)
	}
}

// TestDewuSignInTheQuery: the body has business fields only, and is signed.
func TestDewuSignInTheQuery(t *testing.T) {
	sign := md5Hex("a=1&app_key=ak&timestamp=1709267445000" + "S")
	target := "/d?app_key=ak&timestamp=1709267445000&sign=" + sign
	require.NoError(t, checkParams(t, "dewu", "", "S", call("POST", target, jsonType, `{"a":1}`), noon))
	require.ErrorIs(t, checkParams(t, "dewu", "", "S", call("POST", target, jsonType, `{"a":2}`), noon), ErrInvalid)
}

// A key is pinned to one method: no call can ask for a weaker one.
func TestParamMethodIsPinned(t *testing.T) {
	for _, s := range paramTable {
		for _, pinned := range s.methods() {
			for _, asked := range s.methods() {
				t.Run(s.id+"/"+pinned+"/"+asked, func(t *testing.T) {
					err := checkParams(t, s.id, pinned, "topsecret", signedParams(t, s.id, asked, "topsecret"), noon)
					if pinned == asked {
						require.NoError(t, err)
					} else {
						require.ErrorIs(t, err, ErrMethod)
					}
				})
			}
		}
	}
}

// What a caller writes into the claim does not bring another digest in.
func TestParamMethodOfClaimIsNotTrusted(t *testing.T) {
	r := signedParams(t, "top", "md5", "topsecret")
	c, err := claimOf(t, "top", r)
	require.NoError(t, err)
	c.Method = ""
	_, err = c.Verify(r, []*Key{secretKey(t, "top", "hmac-sha256", "topsecret")}, Options{Now: noon})
	require.ErrorIs(t, err, ErrMethod)
}

// bare is a typical call of a dialect, without key, time and signature.
func bare(dialect string) *Request {
	switch dialect {
	case "aop1688":
		return call("POST", "/openapi/param2/1/ns/api.get/ak", formType, "b=2&a=1&c=%E4%B8%AD+%2B")
	case "dewu":
		return call("POST", "/dop/api", jsonType, `{"b":2, "a":"1","c":["中",{"x":1}]}`)
	case "doudian":
		return call("POST", "/o/list?method=o.list&v=2", jsonType, `{"a":1,"b":"中"}`)
	case "lazada":
		return call("POST", "/rest/order/get", formType, "b=2&a=1")
	case "shopee":
		return call("POST", "/api/v2/order/get?shop_id=7", jsonType, `{"a":1}`)
	case "pdd":
		return call("POST", "/api", formType, "type=m&b=2&a=1")
	case "kuaishou":
		return call("POST", "/api", formType, "method=m&param=%7B%7D&version=1")
	case "jd":
		return call("POST", "/api?method=m&v=2.0", formType, "360buy_param_json=%7B%22a%22%3A1%7D")
	default:
		return call("POST", "/api?method=m", formType, "b=2&a=1")
	}
}

func signedParams(tb testing.TB, dialect, method, secret string) *Request {
	tb.Helper()
	k, err := NewSigningSecret(dialect, method, []byte(secret))
	require.NoError(tb, err)
	r := bare(dialect)
	s, err := Sign(dialect, r, Credentials{AppKey: "ak", Key: k, Token: "tok"}, noon, "")
	require.NoError(tb, err)
	signed := *r
	signed.Header, signed.RawQuery, signed.Body, signed.ContentLength = s.Header, s.RawQuery, s.Body, int64(len(s.Body))
	return &signed
}

func TestParamOptIn(t *testing.T) {
	require.Equal(t, []string{"md5", "hmac", "hmac-sha256"}, Methods("top"))
	for method, want := range map[string]bool{"md5": true, "hmac": true, "hmac-sha256": false} {
		require.Equal(t, want, OptIn("top", method), method)
	}
	for _, dialect := range []string{"jd", "pdd", "dewu"} {
		require.True(t, OptIn(dialect, "md5"))
		require.True(t, OptIn(dialect, ""), "the only method of %s is md5", dialect)
	}
	require.False(t, OptIn("shopee", "hmac-sha256"))
	for _, dialect := range []string{"op1", "rfc9421"} {
		for _, method := range Methods(dialect) {
			require.False(t, OptIn(dialect, method), "%s %s", dialect, method)
		}
	}
}

func TestParamTimeWindow(t *testing.T) {
	for _, s := range paramTable {
		r := signedParams(t, s.id, "", "topsecret")
		for _, side := range []time.Duration{-1, 1} {
			edge := noon.Add(side * 10 * time.Minute)
			require.NoError(t, checkParams(t, s.id, "", "topsecret", r, edge), "%s at %s", s.id, edge)
			if s.timeOptional {
				continue
			}
			require.ErrorIs(t, checkParams(t, s.id, "", "topsecret", r, edge.Add(side*time.Second)), ErrTimestamp, s.id)
		}
	}
	r := call("GET", "/param2/1/ns/api/ak?_aop_timestamp=1709267445000&_aop_signature=00", "", "")
	require.ErrorIs(t, checkParams(t, "aop1688", "", "s", r, noon.Add(901*time.Second)), ErrTimestamp)
	require.ErrorIs(t, checkParams(t, "aop1688", "", "s", r, noon.Add(900*time.Second)), ErrInvalid)
}

// SDKs of one platform disagree about blank values.
func TestBlankValues(t *testing.T) {
	const (
		day   = "timestamp2024-03-01 12:30:45"
		blank = "&e=&t=%09%0D%1C%E3%80%80&n=%C2%A0" // U+001C and U+3000 are space to Java, U+00A0 is not
	)
	query := "/rest?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45" + blank + "&sign="
	for text, want := range map[string]bool{
		"app_keyakmethodmn\u00a0" + day:                 true,  // all blanks dropped
		"app_keyakemethodmn\u00a0t\t\r\x1c\u3000" + day: true,  // all kept
		"app_keyakemethodmn\u00a0" + day:                false, // only the empty one kept
	} {
		for _, dialect := range []string{"top", "jd"} {
			err := checkParams(t, dialect, "md5", "S", call("GET", query+md5Hex("S"+text+"S"), "", ""), noon)
			require.Equal(t, want, err == nil, "%s: %q: %v", dialect, text, err)
		}
	}

	kept := md5Hex("Sclient_idake" + "timestamp1709267445" + "S")
	dropped := md5Hex("Sclient_idak" + "timestamp1709267445" + "S")
	pdd := "/api?client_id=ak&timestamp=1709267445&e=&sign="
	require.NoError(t, checkParams(t, "pdd", "", "S", call("GET", pdd+kept, "", ""), noon))
	require.ErrorIs(t, checkParams(t, "pdd", "", "S", call("GET", pdd+dropped, "", ""), noon), ErrInvalid)

	lazada := "/rest/a?app_key=ak&timestamp=1709267445000&sign_method=sha256&e=+&sign="
	const rest = "sign_methodsha256timestamp1709267445000"
	require.NoError(t, checkParams(t, "lazada", "", "S", call("GET", lazada+hmacHex("S", "/aapp_keyak"+rest), "", ""), noon))
	require.ErrorIs(t, checkParams(t, "lazada", "", "S", call("GET", lazada+hmacHex("S", "/aapp_keyake "+rest), "", ""), noon), ErrInvalid)
}

func TestAop1688SortsPairs(t *testing.T) {
	h := hmac.New(sha1.New, []byte("S"))
	h.Write([]byte("param2/1/ns/api/ak" + "abc" + "az")) // by names, a=z would come first
	r := call("GET", "/openapi/param2/1/ns/api/ak?a=z&ab=c&_aop_signature="+hex.EncodeToString(h.Sum(nil)), "", "")
	require.NoError(t, checkParams(t, "aop1688", "", "S", r, noon), "without a time it is good at any time")
}

func TestShopeePublicAPI(t *testing.T) {
	sign := hmacHex("S", "ak/api/v2/public/get_shops1709267445")
	r := call("GET", "/api/v2/public/get_shops?partner_id=ak&timestamp=1709267445&sign="+sign, "", "")
	require.NoError(t, checkParams(t, "shopee", "", "S", r, noon))
}

func TestDoudianQueryAndOtherTime(t *testing.T) {
	const text = "Sapp_keyakmethodo.listparam_json{}timestamp2024-03-01 12:30:45v2S"
	r := call("GET", "/o/list?method=o.list&v=2&app_key=ak&param_json=%7B%7D&timestamp=2024-03-01+12%3A30%3A45"+
		"&sign_method=hmac-sha256&sign="+hmacHex("S", text), "", "")
	require.NoError(t, checkParams(t, "doudian", "hmac-sha256", "S", r, noon))
}

// TestDoudianBodyIsReadLast: JSON that can be read in two ways is refused of whoever
// can sign; nobody else has the platform look into it, as that takes long.
func TestDoudianBodyIsReadLast(t *testing.T) {
	const target = "/o/list?method=o.list&v=2&app_key=ak&timestamp=1709267445&sign_method=hmac-sha256"
	signed := func(inQuery, inBody string) *Request {
		r := call("POST", target+"&sign="+hmacHex("S", "Sapp_keyakmethodo.listparam_json"+inQuery+inBody+"timestamp1709267445v2S"), jsonType, inBody)
		if inQuery != "" {
			r.RawQuery += "&param_json=" + url.QueryEscape(inQuery)
		}
		return r
	}
	keys := []*Key{secretKey(t, "doudian", "hmac-sha256", "S"), secretKey(t, "doudian", "hmac-sha256", "T")}
	for text, want := range map[string]string{
		`{"a":1,"a":2}`:         `JSON body: byte 13: the object has two members named "a"`,
		`{"a":{"b":1,"b":2}}`:   `JSON body: byte 18: the object has two members named "b"`,
		`[1]`:                   "JSON body: byte 0: an object is expected",
		"{\"a\":\"\xff\"}":      "JSON body: it is not UTF-8",
		`{"a":{"b":[1,2,{}]}} `: "",
		" ":                     "",
	} {
		for _, r := range []*Request{signed("", text), signed(text, "")} {
			for _, order := range [][]int{{0, 1}, {1, 0}} {
				c, err := claimOf(t, "doudian", r)
				require.NoError(t, err)
				_, err = c.Verify(r, []*Key{keys[order[0]], keys[order[1]]}, Options{Now: noon})
				if want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, ErrMalformed)
				require.ErrorContains(t, err, want)
			}
			require.ErrorIs(t, checkParams(t, "doudian", "hmac-sha256", "T", r, noon), ErrInvalid)
		}
	}
	k, err := NewSigningSecret("doudian", "hmac-sha256", []byte("S"))
	require.NoError(t, err)
	_, err = Sign("doudian", call("POST", "/o/list?method=o.list", jsonType, `{"a":1,"a":2}`), Credentials{AppKey: "ak", Key: k}, noon, "")
	require.ErrorIs(t, err, ErrMalformed, "what is refused is not signed")
}

// TestDoudianForgedCost: a body of any length costs a call with no valid signature
// hardly more than its digest.
func TestDoudianForgedCost(t *testing.T) {
	var members strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&members, `"%x":0,`, i)
	}
	r := call("POST", "/x?method=a.b&v=2&app_key=ak&timestamp=1709267445&sign_method=hmac-sha256&sign=00", jsonType, "{"+members.String()+`"z":1}`)
	set, keys := mustSet(t, "doudian"), []*Key{secretKey(t, "doudian", "hmac-sha256", "S")}
	allocs := testing.AllocsPerRun(10, func() {
		var c Claim
		require.NoError(t, set.Claim(&c, r))
		_, err := c.Verify(r, keys, Options{Now: noon})
		require.ErrorIs(t, err, errMismatch)
	})
	require.LessOrEqual(t, allocs, 30.0)
}

func TestAliexpressNameWithSlash(t *testing.T) {
	const text = "/auth/token/createapp_keyakmethod/auth/token/createsign_methodsha256timestamp1709267445000"
	r := call("GET", "/rest?app_key=ak&method=%2Fauth%2Ftoken%2Fcreate&timestamp=1709267445000&sign_method=sha256&sign="+
		strings.ToUpper(hmacHex("S", text)), "", "")
	require.NoError(t, checkParams(t, "aliexpress", "", "S", r, noon))
}

func TestDewuStringToSign(t *testing.T) {
	k, err := NewSigningSecret("dewu", "", []byte("S"))
	require.NoError(t, err)
	tests := map[string]string{
		`"x y*~"`:                         "x+y*%7E",
		`"azAZ09.-_@[^{/:"`:               "azAZ09.-_%40%5B%5E%7B%2F%3A",
		`"\u4e2d\/\n\ud83d\ude00"`:        "%E4%B8%AD%2F%0A%F0%9F%98%80",
		`12345678901234567890`:            "12345678901234567890",
		`1.50`:                            "1.50",
		`null`:                            "null",
		`true`:                            "true",
		`""`:                              "",
		`[]`:                              "",
		`[ "a" , 1, null, "b" ]`:          "a%2C1%2Cnull%2Cb",
		`[["a", 1], {}]`:                  "%5B%22a%22%2C1%5D%2C%7B%7D",
		"{ \"z\" : 1,\n\t\"a\": [ 2 ] }":  "%7B%22z%22%3A1%2C%22a%22%3A%5B2%5D%7D",
		`{"a":"\u0022\/\u4e2d\u001f\b "}`: "%7B%22a%22%3A%22%5C%22%2F%E4%B8%AD%5Cu001F%5Cb+%22%7D",
	}
	for value, want := range tests {
		r := call("POST", "/d", jsonType, fmt.Sprintf(`{"v": %s , "app_key":"ak","timestamp":1}`, value))
		s, err := Sign("dewu", r, Credentials{AppKey: "ak", Key: k}, noon, "")
		require.NoError(t, err, value)
		require.Equal(t, "app_key=ak&timestamp=1&v="+want+"***", s.StringToSign, value)
	}
}

func TestParamReplayID(t *testing.T) {
	id := func(r *Request, dialect string) string {
		c, err := claimOf(t, dialect, r)
		require.NoError(t, err)
		return string(c.ReplayID([]byte("ak "), r))
	}
	for _, s := range paramTable {
		r := signedParams(t, s.id, "", "topsecret")
		again := *r
		require.Equal(t, id(r, s.id), id(&again, s.id))
		again.RawQuery += "&unsigned="
		require.Equal(t, s.id == "shopee", id(r, s.id) != id(&again, s.id),
			"%s: only where parts are unsigned may a signature come twice", s.id)
	}
	lower := call("GET", "/r?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=ab", "", "")
	upper := call("GET", "/r?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=AB", "", "")
	require.Equal(t, id(lower, "top"), id(upper, "top"), "the case of hex makes no other signature")

	// Signed calls of the dialects that leave parts unsigned, and what makes another call of them.
	const doudian, shopee = "/order/list?method=order.list&v=2&app_key=ak&timestamp=1709267445&access_token=tok&sign=ab",
		"/api/v2/order/get?partner_id=ak&timestamp=1709267445&access_token=tok&a=b%20c&sign=ab"
	for _, tt := range []struct {
		dialect, target string
		again           *Request
		other           bool
	}{
		{"doudian", doudian, call("POST", strings.Replace(doudian, "=ab", "=AB", 1), jsonType, "{}"), false},
		{"doudian", doudian, call("POST", doudian+"&x=1", jsonType, "{}"), false},
		{"doudian", doudian, call("POST", strings.Replace(doudian, "/list", "/other", 1), jsonType, "{}"), false},
		{"doudian", doudian, call("GET", doudian+"&param_json=%7B%7D", "", ""), false},
		{"doudian", doudian, call("POST", strings.Replace(doudian, "tok", "%74ok", 1), jsonType, "{}"), false},
		{"doudian", doudian, call("POST", strings.Replace(doudian, "tok", "other", 1), jsonType, "{}"), true},
		{"shopee", shopee, call("POST", strings.Replace(shopee, "=ab", "=AB", 1), jsonType, "{}"), false},
		{"shopee", shopee, call("POST", strings.Replace(shopee, "b%20c", "%62+c", 1)+"&", jsonType, "{}"), false},
		{"shopee", shopee, call("POST", strings.Replace(strings.TrimSuffix(shopee, "&sign=ab"), "?", "?sign=ab&", 1), jsonType, "{}"), false},
		{"shopee", shopee, call("POST", strings.Replace(shopee, "b%20c", "b", 1), jsonType, "{}"), true},
		{"shopee", shopee, call("POST", shopee, jsonType, "[]"), true},
		{"shopee", shopee, call("PUT", shopee, jsonType, "{}"), true},
		{"shopee", shopee, call("POST", strings.Replace(shopee, "get", "add", 1), jsonType, "{}"), true},
	} {
		first := id(call("POST", tt.target, jsonType, "{}"), tt.dialect)
		require.Equal(t, tt.other, id(tt.again, tt.dialect) != first, "%s: %s %s %s", tt.dialect, tt.again.Method, tt.again.Path, tt.again.RawQuery)
	}
	other := call("GET", "/r?method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=ac", "", "")
	require.NotEqual(t, id(lower, "top"), id(other, "top"))
}

func TestParamStrip(t *testing.T) {
	tests := []struct {
		name, dialect string
		r             *Request
		query, body   string // body "" means unchanged
	}{
		{
			"query and form", "top",
			call("POST", "/r?a=%7e&app_key=ak&&sign=00&method=m&timestamp=2024-03-01+12%3A30%3A45&b=+&client_secret=x", formType, "c=%2b&session=tok&d"),
			"a=%7e&app_key=ak&&method=m&timestamp=2024-03-01+12%3A30%3A45&b=+", "c=%2b&d",
		},
		{
			"escaped name", "top",
			call("GET", "/r?app_key=ak&sign=00&method=m&timestamp=2024-03-01+12%3A30%3A45&s%65ssion=tok", "", ""),
			"app_key=ak&method=m&timestamp=2024-03-01+12%3A30%3A45", "",
		},
		{
			"token under the other name", "aliexpress",
			call("GET", "/sync?method=m&app_key=ak&timestamp=1&sign_method=sha256&access_token=tok&sign=00", "", ""),
			"method=m&app_key=ak&timestamp=1&sign_method=sha256", "",
		},
		{
			"body is not a form", "top",
			call("POST", "/r?app_key=ak&sign=00&method=m&timestamp=2024-03-01+12%3A30%3A45", "text/xml", "sign=1&session=2"),
			"app_key=ak&method=m&timestamp=2024-03-01+12%3A30%3A45", "",
		},
		{
			"JSON", "dewu",
			call("POST", "/d", jsonType, " {\t\"sign\":\"00\", \"a\" : [1 ,2],\"access_token\":\"t\" , \"app_key\":\"ak\",\n\"timestamp\":1,\"app_secret\":null }\n"),
			"", " {\t\"a\" : [1 ,2] , \"app_key\":\"ak\",\n\"timestamp\":1 }\n",
		},
		{
			"JSON, nested names stay", "dewu",
			call("POST", "/d", jsonType, `{"app_key":"ak","timestamp":1,"a":{"sign":1},"sign":"00"}`),
			"", `{"app_key":"ak","timestamp":1,"a":{"sign":1}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := claimOf(t, tt.dialect, tt.r)
			require.NoError(t, err)
			header, query, body := Strip(c, tt.r)
			require.Empty(t, header)
			require.Equal(t, tt.query, query)
			require.Equal(t, tt.body, string(body))
			require.Equal(t, tt.body == "", body == nil)
		})
	}
}

func TestParamSignRefusals(t *testing.T) {
	k, err := NewSigningSecret("top", "hmac-sha256", []byte("S"))
	require.NoError(t, err)
	cred := Credentials{AppKey: "ak", Key: k}
	for _, target := range []string{
		"/r?method=m&sign=00",         // signed already
		"/r?method=m&app_key=other",   // of another app
		"/r?method=m&sign_method=md5", // the key is for another method
		"/r?method=m&a=1&a=2",         // not to be signed for sure
	} {
		_, err := Sign("top", call("GET", target, "", ""), cred, noon, "")
		require.Error(t, err, target)
		require.NotContains(t, err.Error(), "00")
	}
}

func TestParamSignLeavesRequest(t *testing.T) {
	for _, s := range paramTable {
		r, same := bare(s.id), bare(s.id)
		k, err := NewSigningSecret(s.id, "", []byte("topsecret"))
		require.NoError(t, err)
		signed, err := Sign(s.id, r, Credentials{AppKey: "ak", Key: k, Token: "tok"}, noon, "")
		require.NoError(t, err)
		signed.Header.Set("X-Other", "1")
		require.Equal(t, same, r)
		require.NotContains(t, signed.StringToSign, "topsecret")
	}
}
