package catalog

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The forms of names. The management service checks them again; here a mistake
// gets its line.
const (
	maxAPIName     = 128
	maxPackageName = 64
)

var (
	apiNames     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+$`)
	versions     = regexp.MustCompile(`^[0-9]{1,5}(\.[0-9]{1,5}){0,2}$`)
	packageNames = regexp.MustCompile(`^[a-z][a-z0-9]*([._-][a-z0-9]+)*$`)
	rates        = regexp.MustCompile(`^([0-9]{1,18})/([0-9]*[a-z][0-9a-z.]*)(?: burst ([0-9]{1,18}))?$`)
	hosts        = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?$`)
)

// apiName reads a dotted name: trade.order.get.
func (p *parser) apiName(v value) string {
	s := p.text(v)
	if s != "" && !isAPIName(s) || s == "" && v.node.Kind == yaml.ScalarNode {
		p.fail(v.node, v.ptr, "words joined by dots, as trade.order.get", "%q is no API name", clip(s))
		return ""
	}
	return s
}

func isAPIName(s string) bool { return len(s) <= maxAPIName && apiNames.MatchString(s) }

// version reads a version: 1.0. YAML takes it for a number; its text counts.
func (p *parser) version(v value) string {
	s := p.text(v)
	if !versions.MatchString(s) {
		p.fail(v.node, v.ptr, `numbers joined by dots, as "1.0"`, "%q is no API version", clip(s))
		return ""
	}
	return s
}

func (p *parser) packageName(v value) string {
	s := p.text(v)
	if len(s) > maxPackageName || !packageNames.MatchString(s) {
		p.fail(v.node, v.ptr, "lower-case letters and digits with single . _ or - between them, as trade", "%q is no package name", clip(s))
		return ""
	}
	return s
}

func (p *parser) status(v value) platform.APIStatus {
	switch s := platform.APIStatus(p.text(v)); s {
	case platform.Draft, platform.Online, platform.Deprecated, platform.Offline:
		return s
	}
	p.fail(v.node, v.ptr, "draft, online, deprecated or offline", "%q is no status", clip(v.node.Value))
	return ""
}

// date reads an RFC 3339 time, or a day, which stands for its start in UTC.
func (p *parser) date(v value) time.Time {
	s := p.text(v)
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	p.fail(v.node, v.ptr, "a day or a time, as 2027-06-30 or 2027-06-30T00:00:00Z", "%q is no date", clip(s))
	return time.Time{}
}

// upstream reads a dial address: host:port, or unix/ and the socket's path.
func (p *parser) upstream(v value) string {
	s := p.text(v)
	if path, ok := strings.CutPrefix(s, "unix/"); ok {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, " \t\n{}") {
			p.fail(v.node, v.ptr, "unix//run/shop.sock", "%q names no socket", clip(s))
		}
		return s
	}
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		if _, _, err := net.SplitHostPort(rest); err != nil {
			rest += map[string]string{"https": ":443"}[scheme]
			if scheme != "https" {
				rest += ":80"
			}
		}
		p.fail(v.node, v.ptr, clip(rest), "the upstream %q has a scheme or a path", clip(s))
		return s
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		p.fail(v.node, v.ptr, "host:port, as 127.0.0.1:8181", "the upstream %q has no port", clip(s))
		return s
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		p.fail(v.node, v.ptr, "a port from 1 to 65535, and no path", "the upstream %q has no valid port", clip(s))
		return s
	}
	if _, err := netip.ParseAddr(host); err != nil && !hosts.MatchString(host) {
		p.fail(v.node, v.ptr, "host:port, as 127.0.0.1:8181", "the upstream %q has no valid host", clip(s))
	}
	return s
}

// rate reads "100/1m", "100/s" or "100/s burst 200".
func (p *parser) rate(v value) limit.Rate {
	s := p.text(v)
	const want = "requests/period, as 100/1m, 20/s or 20/s burst 50"
	m := rates.FindStringSubmatch(s)
	if m == nil {
		p.fail(v.node, v.ptr, want, "%q is no rate", clip(s))
		return limit.Rate{}
	}
	period := m[2]
	if period[0] < '0' || period[0] > '9' {
		period = "1" + period
	}
	var r limit.Rate
	var err error
	if r.Period, err = time.ParseDuration(period); err != nil {
		p.fail(v.node, v.ptr, want, "%q has no valid period", clip(s))
		return limit.Rate{}
	}
	// The expression admits no more digits than an int64 holds.
	r.Requests, _ = strconv.ParseInt(m[1], 10, 64)
	r.Burst, _ = strconv.ParseInt("0"+m[3], 10, 64)
	if err := r.Validate(); err != nil {
		p.fail(v.node, v.ptr, want, "the rate %q cannot be kept: %v", clip(s), err)
		return limit.Rate{}
	}
	return r
}

// quota reads {day: 10000, month: 200000}.
func (p *parser) quota(v value) limit.Quota {
	const want = "{day: 10000, month: 200000}"
	var q limit.Quota
	if v.node.Kind != yaml.MappingNode {
		p.fail(v.node, v.ptr, want, "it is %s", kindOf(v.node))
		return q
	}
	for e := range v.entries() {
		n, err := strconv.ParseInt(e.node.Value, 10, 64)
		switch {
		case e.key.Value != "day" && e.key.Value != "month":
			p.fail(e.key, e.ptr, want, "a quota has no %q", clip(e.key.Value))
		case err != nil || n <= 0 || e.node.ShortTag() != "!!int":
			p.fail(e.node, e.ptr, "a positive number", "it is %s", kindOf(e.node))
		case e.key.Value == "day":
			q.Day = n
		default:
			q.Month = n
		}
	}
	return q
}
