package limit

import (
	"strconv"
	"time"
)

// maxInteger is the largest Integer of a structured field (RFC 9651 section 3.3.1).
const maxInteger = 999_999_999_999_999

// Policy is the name of the limit that r describes: its scope, and for a quota
// the unit, as in "app" and "app-month".
func (r Result) Policy() string {
	return string(r.appendPolicy(nil))
}

func (r Result) appendPolicy(dst []byte) []byte {
	dst = append(dst, r.Scope.String()...)
	if r.Quota {
		dst = append(append(dst, '-'), r.Unit.String()...)
	}
	return dst
}

// AppendRateLimit appends the value of a RateLimit field, such as
// "app";r=99;t=12, as draft-ietf-httpapi-ratelimit-headers-11 section 4 has it.
// It appends nothing if there is no limit.
//
// For an allowed call, t runs until the whole limit is back; for a refused one
// until the first call can be allowed, since Retry-After must not point before
// the end of t (section 6). r never exceeds the policy's q (section 8.5),
// although a burst may.
func AppendRateLimit(dst []byte, r Result) []byte {
	if r.Limit == 0 {
		return dst
	}
	t := r.Reset
	if !r.Allowed {
		t = r.RetryAfter
	}
	dst = append(r.appendPolicy(append(dst, '"')), `";r=`...)
	dst = appendInteger(dst, min(r.Remaining, r.Limit))
	dst = append(dst, ";t="...)
	return appendInteger(dst, seconds(t))
}

// AppendRateLimitPolicy appends the value of a RateLimit-Policy field, such as
// "app";q=100;w=60 (section 3 of the same draft). The window is rounded up to
// whole seconds, as the draft has no shorter ones. It appends nothing if there
// is no limit.
func AppendRateLimitPolicy(dst []byte, r Result) []byte {
	if r.Limit == 0 {
		return dst
	}
	dst = append(r.appendPolicy(append(dst, '"')), `";q=`...)
	dst = appendInteger(dst, r.Limit)
	dst = append(dst, ";w="...)
	return appendInteger(dst, max(1, seconds(r.Window)))
}

func seconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return (int64(d)-1)/int64(time.Second) + 1
}

func appendInteger(dst []byte, n int64) []byte {
	return strconv.AppendInt(dst, min(max(n, 0), maxInteger), 10)
}
