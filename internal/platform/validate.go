package platform

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// The bounds of what users write, in characters or entries.
const (
	maxName        = 100
	maxTitle       = 200
	maxDescription = 2000
	maxNote        = 200
	maxActor       = 200
	maxIPs         = 1000
	maxGroupRules  = 10000
	maxPageRows    = 1000
	defaultRows    = 100
)

// maxOverlap is the longest time that a revoked credential may go on.
const maxOverlap = 90 * 24 * time.Hour

var (
	plainName  = regexp.MustCompile(`^[a-z][a-z0-9]*([._-][a-z0-9]+)*$`)
	apiName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*$`)
	apiVersion = regexp.MustCompile(`^[0-9]{1,5}(\.[0-9]{1,5}){0,2}$`)
)

func checkActor(actor string) error { return checkText("actor", actor, 1, maxActor) }

// checkText bounds a text that people read: valid UTF-8 without control
// characters, and not blank unless least is 0.
func checkText(field, s string, least, most int) error {
	switch {
	case !utf8.ValidString(s):
		return &FieldError{Field: field, Problem: "is not UTF-8", Want: "text"}
	case least > 0 && strings.TrimSpace(s) == "":
		return &FieldError{Field: field, Problem: "is empty", Want: fmt.Sprintf("%d to %d characters", least, most)}
	case utf8.RuneCountInString(s) > most:
		return &FieldError{Field: field, Problem: fmt.Sprintf("has %d characters", utf8.RuneCountInString(s)), Want: fmt.Sprintf("at most %d", most)}
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return &FieldError{Field: field, Problem: "has control characters", Want: "plain text"}
	}
	return nil
}

// checkName bounds the name of a package, a plan or a group.
func checkName(field, s string) error {
	if len(s) > 64 || !plainName.MatchString(s) {
		return &FieldError{Field: field, Problem: fmt.Sprintf("%q is no name", s), Want: `lower-case letters and digits, with single . _ or - between them, at most 64: "trade"`}
	}
	return nil
}

func checkNewApp(a *App) error {
	if err := checkText("name", a.Name, 1, maxName); err != nil {
		return err
	}
	if !slices.Contains([]AppKind{Merchant, ISV}, a.Kind) {
		return &FieldError{Field: "kind", Problem: fmt.Sprintf("%q is no kind of app", a.Kind), Want: "merchant or isv"}
	}
	if !slices.Contains([]AppMode{Hosted, Web, Client}, a.Mode) {
		return &FieldError{Field: "mode", Problem: fmt.Sprintf("%q is no mode", a.Mode), Want: "hosted, web or client"}
	}
	return nil
}

func checkAppFilter(f AppFilter) error {
	if f.Status != "" && !slices.Contains([]AppStatus{Active, Suspended}, f.Status) {
		return &FieldError{Field: "status", Problem: fmt.Sprintf("%q is no status of an app", f.Status), Want: "active or suspended"}
	}
	if f.Kind != "" && !slices.Contains([]AppKind{Merchant, ISV}, f.Kind) {
		return &FieldError{Field: "kind", Problem: fmt.Sprintf("%q is no kind of app", f.Kind), Want: "merchant or isv"}
	}
	return checkText("text", f.Text, 0, maxName)
}

// checkLimit bounds the rows of a list.
func checkLimit(n int) (int, error) {
	switch {
	case n < 0:
		return 0, &FieldError{Field: "limit", Problem: fmt.Sprintf("%d is negative", n), Want: fmt.Sprintf("1 to %d", maxPageRows)}
	case n == 0:
		return defaultRows, nil
	}
	return min(n, maxPageRows), nil
}

func checkDialect(name string) error {
	if signing.Known(name) {
		return nil
	}
	return &FieldError{Field: "dialect", Problem: fmt.Sprintf("there is no dialect %q", name), Want: "one of " + strings.Join(signing.Names(), ", ")}
}

func checkAPIStatus(field string, st APIStatus) error {
	if slices.Contains([]APIStatus{Draft, Online, Deprecated, Offline}, st) {
		return nil
	}
	return &FieldError{Field: field, Problem: fmt.Sprintf("%q is no status of an API", st), Want: "draft, online, deprecated or offline"}
}

// checkPlan accepts the default plan and the ones that exist.
func (c *Catalog) checkPlan(name string) error {
	if name == "" || slices.ContainsFunc(c.Plans, func(p Plan) bool { return p.Name == name }) {
		return nil
	}
	return &FieldError{Field: "plan", Problem: fmt.Sprintf("there is no plan %q", name), Want: "the name of a plan, or none for the default plan"}
}

// parseIPRule reads an address, a network or "@group"; field is how errors
// name it.
func parseIPRule(field, s string) (IPRule, error) {
	if group, ok := strings.CutPrefix(s, "@"); ok {
		if checkName(field, group) != nil {
			return IPRule{}, &FieldError{Field: field, Problem: fmt.Sprintf("%q is no group's name", group), Want: "the name of an IP group after the @: @office"}
		}
		return IPRule{Group: group}, nil
	}
	p, err := ParseNetwork(field, s)
	return IPRule{Prefix: p}, err
}

// ParseNetwork reads a network, or an address as a network of its own; field is
// how errors name it.
func ParseNetwork(field, s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return network(field, netip.PrefixFrom(addr, addr.BitLen()))
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, &FieldError{Field: field, Problem: fmt.Sprintf("%q is no address and no network", s), Want: "an address like 203.0.113.7, or a network like 203.0.113.0/24"}
	}
	return network(field, p)
}

// network gives a network as rules have it: IPv4 written as IPv6 is IPv4, as
// callers' addresses are. One that is not written as a network is refused:
// whoever writes 10.1.2.3/8 may mean the address or the network.
func network(field string, p netip.Prefix) (netip.Prefix, error) {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	switch {
	case !p.IsValid():
		return p, &FieldError{Field: field, Problem: "is empty", Want: "a network like 203.0.113.0/24"}
	case p != p.Masked():
		return p, &FieldError{
			Field: field, Problem: fmt.Sprintf("%s has bits set after the first %d", p, p.Bits()),
			Want: fmt.Sprintf("%s for the network, or %s for the address", p.Masked(), p.Addr()),
		}
	}
	return p, nil
}

// same tells whether both rules let the same callers in.
func (r IPRule) same(o IPRule) bool { return r.Prefix == o.Prefix && r.Group == o.Group }

// storeTime is t as the store keeps it: UTC in whole microseconds.
func storeTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
