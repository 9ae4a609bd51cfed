package signing

import (
	"hash"
	"time"
)

// tenMinutes is the window of the dialects that document it, and of those that
// document none.
const tenMinutes = 10 * time.Minute

// paramScheme is a dialect that signs parameters: one row of the table.
type paramScheme struct {
	id string
	// digests are the methods, the one that an absent method parameter means
	// first.
	digests []digest

	// The names of the parameters; empty where the dialect has none.
	keyParam    string
	signParam   string
	methodParam string
	timeParam   string
	apiParam    string
	tokenParam  string

	time         timeFormat
	timeOptional bool
	reach        time.Duration

	// marked tells by its parameters whether a call that carries keyParam and
	// signParam is of this dialect; mark says so in words. Nil: those two tell it.
	marked func(peek) bool
	mark   string
	// keyless: the call need not carry keyParam.
	keyless bool
	// body is what a body means.
	body bodyRule
	// join appends the string to sign, without the secret; blank values are
	// left out if drop says so.
	join func(dst []byte, p *paramState, drop bool) []byte
	// drops lists the variants of drop that SDKs of the dialect use, the one
	// that we sign with first.
	drops []bool
	// inspect, if set, reads what the path says into p.prefix and the claim
	// and checks what is special about the dialect.
	inspect func(p *paramState, path string, c *Claim) error
	// scan, if set, checks the content of a call whose signature holds: it takes
	// longer than the signature does, and is not for everybody to ask for.
	scan func(p *paramState) error

	// fillMethod: the method parameter is required, so Sign fills it in. version
	// is what it fills in for v beside an apiParam; empty for nothing.
	fillMethod bool
	version    string
	// signBody: Sign puts its parameters into a body that has parameters; else
	// into the query.
	signBody bool
	// unsigned, if set, writes what the signature leaves out and makes another
	// call of it: two honest calls that differ in it may carry the same signature.
	unsigned func(h hash.Hash, c *Claim, r *Request)
}

// What SDKs of a platform do with blank values.
var (
	keepBlank   = []bool{false}
	dropBlank   = []bool{true}
	eitherBlank = []bool{true, false} // they disagree
)

// paramTable is every dialect that signs parameters, in canonical order.
//
// Markers tell the platforms with app_key and sign apart by what their calls
// must carry: top and jd name the API in method and write dates, jd with
// milliseconds and zone; doudian's v is 2; aliexpress counts milliseconds; the
// path names the API of dewu and lazada, and only lazada has a sign_method.
var paramTable = [...]paramScheme{
	{
		id:       "aop1688",
		digests:  []digest{hmacSHA1(upperHex)},
		keyParam: "client_id", keyless: true, // the path names the app
		signParam: "_aop_signature", tokenParam: tokenParam,
		timeParam: "_aop_timestamp", time: unixMillis, timeOptional: true, reach: 15 * time.Minute,
		join: joinPairsSorted, drops: keepBlank, inspect: inspectParam2,
		signBody: true,
	},
	{
		id:       "top",
		digests:  []digest{plainMD5(frameAround, upperHex), hmacMD5(upperHex), hmac256("hmac-sha256", frameNone, upperHex)},
		keyParam: "app_key", signParam: "sign", methodParam: "sign_method", apiParam: "method", tokenParam: "session",
		timeParam: "timestamp", time: wallTime, reach: tenMinutes,
		marked: func(p peek) bool {
			return p.has("method") && !p.has(jdParams) && !p.zoned("timestamp") && !p.digits("timestamp") && !p.is("v", "2")
		},
		mark: "method, and timestamp as yyyy-MM-dd HH:mm:ss",
		body: bodyFormOrRaw, join: joinKeyValue, drops: eitherBlank,
		fillMethod: true,
	},
	{
		id:       "dewu",
		digests:  []digest{plainMD5(frameAfter, upperHex)},
		keyParam: "app_key", signParam: "sign", tokenParam: tokenParam,
		timeParam: "timestamp", time: unixMillis, reach: tenMinutes,
		marked: func(p peek) bool {
			return !p.has("method") && !p.has("sign_method") && !p.dated("timestamp")
		},
		mark: "timestamp in milliseconds, and neither method nor sign_method",
		body: bodyFormOrJSON, join: joinJavaEncoded, drops: keepBlank,
		signBody: true,
	},
	{
		id:       "jd",
		digests:  []digest{plainMD5(frameAround, upperHex)},
		keyParam: "app_key", signParam: "sign", methodParam: "sign_method", apiParam: "method", tokenParam: tokenParam,
		timeParam: "timestamp", time: zoneTime, reach: tenMinutes,
		marked: func(p peek) bool {
			return p.has(jdParams) || p.has("method") && !p.has("session") && !p.digits("timestamp") && !p.is("v", "2")
		},
		mark: "method, and timestamp as yyyy-MM-dd HH:mm:ss.SSSZ",
		join: joinKeyValue, drops: eitherBlank,
	},
	{
		id:       "pdd",
		digests:  []digest{plainMD5(frameAround, upperHex)},
		keyParam: "client_id", signParam: "sign", methodParam: "sign_method", apiParam: "type", tokenParam: tokenParam,
		timeParam: "timestamp", time: unixSeconds, reach: tenMinutes,
		join: joinKeyValue, drops: keepBlank,
		signBody: true,
	},
	{
		id:       "doudian",
		digests:  []digest{plainMD5(frameAround, lowerHex), hmac256("hmac-sha256", frameAround, lowerHex)},
		keyParam: "app_key", signParam: "sign", methodParam: "sign_method", apiParam: "method", tokenParam: tokenParam,
		timeParam: "timestamp", time: secondsOrWallTime, reach: tenMinutes,
		marked: func(p peek) bool {
			if p.has("method") {
				return p.is("v", "2") && !p.has(jdParams)
			}
			// The platform's own calls to a merchant carry neither method nor v.
			return p.dated("timestamp") || p.has("sign_method") && !p.is("sign_method", "sha256")
		},
		mark: "method, and v=2",
		body: bodyWhole, join: joinDoudian, drops: keepBlank, inspect: inspectDoudian, scan: scanDoudian,
		fillMethod: true, version: "2", unsigned: tokenOfDoudian,
	},
	{
		id:       "kuaishou",
		digests:  []digest{plainMD5(frameAfter, lowerHex).as("MD5"), hmac256("HMAC_SHA256", frameAfter, base64Std)},
		keyParam: "appkey", signParam: "sign", methodParam: "signMethod", apiParam: "method", tokenParam: tokenParam,
		timeParam: "timestamp", time: unixMillis, reach: tenMinutes,
		join: joinKuaishou, drops: keepBlank,
		fillMethod: true, signBody: true,
	},
	{
		id:       "lazada",
		digests:  []digest{hmac256("sha256", frameNone, upperHex)},
		keyParam: "app_key", signParam: "sign", methodParam: "sign_method", tokenParam: tokenParam,
		timeParam: "timestamp", time: unixMillis, reach: tenMinutes,
		marked: func(p peek) bool {
			return p.has("sign_method") && !p.has("method") && !p.has("session") && !p.dated("timestamp")
		},
		mark: "sign_method, timestamp in milliseconds, and no method",
		body: bodyFormOrRaw, join: joinKeyValue, drops: dropBlank, inspect: inspectLazada,
		fillMethod: true,
	},
	{
		id:       "aliexpress",
		digests:  []digest{hmac256("sha256", frameNone, upperHex)},
		keyParam: "app_key", signParam: "sign", methodParam: "sign_method", apiParam: "method", tokenParam: "session",
		timeParam: "timestamp", time: unixMillis, reach: tenMinutes,
		marked: func(p peek) bool {
			return p.has("sign_method") && (p.has("method") || !p.has(tokenParam)) &&
				!p.dated("timestamp") && !p.is("v", "2") && !p.has(jdParams)
		},
		mark: "sign_method, and timestamp in milliseconds",
		body: bodyFormOrRaw, join: joinKeyValue, drops: dropBlank, inspect: inspectAliexpress,
		fillMethod: true,
	},
	{
		id:       "shopee",
		digests:  []digest{hmac256("", frameNone, lowerHex)},
		keyParam: "partner_id", signParam: "sign", tokenParam: tokenParam,
		timeParam: "timestamp", time: unixSeconds, reach: tenMinutes,
		marked: func(p peek) bool { return !p.has("app_key") },
		mark:   "no app_key",
		body:   bodyUnsigned, join: joinShopee, drops: keepBlank, inspect: inspectShopee,
		unsigned: restOfShopee,
	},
}

// jdParams is the parameter with the business fields of a jd call.
const jdParams = "360buy_param_json"

// paramSchemes returns the parameter dialects in their canonical order.
func paramSchemes() []scheme {
	rows := make([]scheme, len(paramTable))
	for i := range paramTable {
		rows[i] = &paramTable[i]
	}
	return rows
}
