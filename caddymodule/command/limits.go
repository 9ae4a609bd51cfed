package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const wantLimits = `"100/1m burst 200, 10000/day, 200000/month", any part of it, or "none"`

// parseLimits reads limits as a user writes them: parts joined by commas, a
// rate ("100/1m", "100/s burst 200") and quotas ("10000/day", "200000/month").
func parseLimits(field, text string) (platform.Limits, error) {
	var l platform.Limits
	if text == "none" {
		return l, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		count, span, ok := strings.Cut(part, "/")
		n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 64)
		if !ok || err != nil || n <= 0 {
			return l, &platform.FieldError{Field: field, Problem: fmt.Sprintf("%q is no limit", part), Want: wantLimits}
		}
		var twice bool
		switch span = strings.TrimSpace(span); span {
		case "day":
			twice, l.Quota.Day = l.Quota.Day != 0, n
		case "month":
			twice, l.Quota.Month = l.Quota.Month != 0, n
		default:
			twice = !l.Rate.IsZero()
			l.Rate, err = parseRate(n, span)
		}
		if err != nil {
			return l, &platform.FieldError{Field: field, Problem: fmt.Sprintf("%q: %v", part, err), Want: wantLimits}
		}
		if twice {
			return l, &platform.FieldError{Field: field, Problem: fmt.Sprintf("%q repeats a kind of limit", part), Want: "one rate, one quota a day and one a month"}
		}
	}
	return l, nil
}

// parseRate reads what follows the slash: "1m", "s", "1m burst 200".
func parseRate(n int64, span string) (limit.Rate, error) {
	words := strings.Fields(span)
	if len(words) != 1 && (len(words) != 3 || words[1] != "burst") {
		return limit.Rate{}, fmt.Errorf("no span of time")
	}
	period := words[0]
	if period == "s" || period == "m" || period == "h" {
		period = "1" + period
	}
	d, err := time.ParseDuration(period)
	if err != nil {
		return limit.Rate{}, fmt.Errorf("no span of time")
	}
	r := limit.Rate{Requests: n, Period: d}
	if len(words) == 3 {
		if r.Burst, err = strconv.ParseInt(words[2], 10, 64); err != nil || r.Burst <= 0 {
			return limit.Rate{}, fmt.Errorf("the burst is no number from 1")
		}
	}
	return r, r.Validate()
}

// formatLimits is the inverse of parseLimits; no limits are "".
func formatLimits(l platform.Limits) string {
	var parts []string
	if r := l.Rate; !r.IsZero() {
		text := fmt.Sprintf("%d/%s", r.Requests, shortDuration(r.Period))
		if r.Burst != 0 && r.Burst != r.Requests {
			text += fmt.Sprintf(" burst %d", r.Burst)
		}
		parts = append(parts, text)
	}
	if l.Quota.Day != 0 {
		parts = append(parts, fmt.Sprintf("%d/day", l.Quota.Day))
	}
	if l.Quota.Month != 0 {
		parts = append(parts, fmt.Sprintf("%d/month", l.Quota.Month))
	}
	return strings.Join(parts, ", ")
}

// shortDuration prints 1m and not 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// orNone is what a table shows for limits that are not set.
func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
