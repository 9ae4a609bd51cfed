package pusher

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// minRetryAfter and maxRetryAfter bound what an endpoint may ask for.
	minRetryAfter = time.Second
	maxRetryAfter = 24 * time.Hour
	// maxProblem bounds what is recorded of an error, in bytes.
	maxProblem = 512
)

// verdict is what an answer means for the delivery and the endpoint.
type verdict uint8

const (
	// arrived: 2xx.
	arrived verdict = iota
	// rejected: the endpoint works, but does not take this one.
	rejected
	// throttled: the endpoint asks for less (429, 502, 504, or 503 with Retry-After).
	throttled
	// broken: it does not answer, or with a failure of its own.
	broken
	// gone: 410, the endpoint wants nothing any more.
	gone
)

// verdict tells what the answer means.
func (a *answer) verdict() verdict {
	switch {
	case a.class == ClassNone:
		return arrived
	case a.class == ClassKey:
		return rejected // our own lack, not the endpoint's
	case a.class != ClassStatus:
		return broken
	case a.status == http.StatusGone:
		return gone
	case a.status == http.StatusTooManyRequests, a.status == http.StatusBadGateway, a.status == http.StatusGatewayTimeout,
		a.status == http.StatusServiceUnavailable && a.retryAfter > 0:
		return throttled
	case a.status >= 500:
		return broken
	}
	return rejected
}

// statusProblem says what is wrong with a status that is not 2xx.
func statusProblem(status int) string {
	text := http.StatusText(status)
	if text == "" {
		text = "unknown status"
	}
	if status/100 == 3 {
		text += "; redirects are not followed"
	}
	return fmt.Sprintf("answered %d %s", status, text)
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3): seconds, or
// a date. What cannot be read is nothing.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if strings.Trim(header, "0123456789") == "" {
		n, err := strconv.ParseInt(header, 10, 64)
		if err != nil || n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return max(time.Duration(n)*time.Second, minRetryAfter)
	}
	t, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(t.Sub(now), minRetryAfter), maxRetryAfter)
}

// plainText makes an error fit for the record: short, valid and on one line.
func plainText(s string) string {
	if len(s) > 2*maxProblem {
		s = s[:2*maxProblem]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxProblem {
		return s
	}
	cut := maxProblem
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
