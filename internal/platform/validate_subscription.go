package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of subscriptions.
const (
	maxSubscriptions = 100 // of an app
	maxCallbackURL   = 2000
	maxTopics        = 1000
	maxUsers         = 1000
	maxConditions    = 10
	maxPointer       = 500
	maxOperand       = 4000
	maxChoices       = 100
	maxSchedule      = 20
	leastWait        = time.Second
	mostWait         = 24 * time.Hour
)

// checkCallbackURL accepts what a message can be posted to. Whether the address
// is one that may be called shows when it is: names change.
func (s *Service) checkCallbackURL(raw string) error {
	fail := func(problem, want string) error {
		return &FieldError{Field: "url", Problem: problem, Want: want}
	}
	const want = "a URL as https://shop.example.com/push"
	switch {
	case raw == "":
		return fail("is empty", want)
	case len(raw) > maxCallbackURL:
		return fail(fmt.Sprintf("has %d characters", len(raw)), fmt.Sprintf("at most %d", maxCallbackURL))
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fail("has blanks or characters outside of ASCII", "those percent-encoded, and an international host name in its xn-- form")
	case strings.Contains(raw, "#"):
		return fail("has a fragment, which no server sees", "the URL without # and what follows")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return fail("is no absolute URL", want)
	case u.User != nil:
		return fail("has a user name or a password", "the URL without them: pushes are signed")
	case u.Port() != "" && !isPort(u.Port()), strings.HasSuffix(u.Host, ":"):
		return fail("has no valid port", "a port from 1 to 65535, or none")
	case u.Scheme == "http" && !s.allowHTTP(u.Hostname()):
		return fail("is not https, and the operator does not allow http to this host", want)
	case u.Scheme != "https" && u.Scheme != "http":
		return fail(fmt.Sprintf("has the scheme %q", u.Scheme), want)
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// check checks what stands in the subscription by itself.
func (s *Subscription) check() error {
	if s.HoldFor != 0 && (s.HoldFor < leastWait || s.HoldFor > 7*mostWait) {
		return &FieldError{Field: "hold_for", Problem: fmt.Sprintf("%v is out of range", s.HoldFor), Want: fmt.Sprintf("%v to %v, or 0s for %v", leastWait, 7*mostWait, DefaultHoldFor)}
	}
	if s.Concurrency < 0 || s.Concurrency > MaxConcurrency {
		return &FieldError{Field: "concurrency", Problem: fmt.Sprintf("%d is out of range", s.Concurrency), Want: fmt.Sprintf("1 to %d, or 0 for %d", MaxConcurrency, DefaultConcurrency)}
	}
	if err := s.Rate.Validate(); err != nil {
		return limitError("rate", err)
	}
	if len(s.Schedule) > maxSchedule {
		return &FieldError{Field: "schedule", Problem: fmt.Sprintf("has %d waits", len(s.Schedule)), Want: fmt.Sprintf("1 to %d, or none for the platform's", maxSchedule)}
	}
	for i, wait := range s.Schedule {
		if wait < leastWait || wait > mostWait {
			return &FieldError{Field: fmt.Sprintf("schedule[%d]", i), Problem: fmt.Sprintf("%v is out of range", wait), Want: fmt.Sprintf("%v to %v", leastWait, mostWait)}
		}
	}
	if !slices.Contains([]PushFormat{EncryptedFormat, PlainFormat}, s.Format) {
		return &FieldError{Field: "format", Problem: fmt.Sprintf("%q is no format", s.Format), Want: "encrypted, or plain where staff allow it"}
	}
	if len(s.Filter.Conditions) > maxConditions {
		return &FieldError{Field: "filter.conditions", Problem: fmt.Sprintf("has %d entries", len(s.Filter.Conditions)), Want: fmt.Sprintf("at most %d", maxConditions)}
	}
	for i := range s.Filter.Conditions {
		if err := s.Filter.Conditions[i].check(fmt.Sprintf("filter.conditions[%d].", i)); err != nil {
			return err
		}
	}
	return nil
}

// check names faulty fields below prefix, and takes the blanks out of Value.
func (c *Condition) check(prefix string) error {
	rest := strings.NewReplacer("~0", "", "~1", "").Replace(c.Pointer)
	if c.Pointer != "" && c.Pointer[0] != '/' || strings.Contains(rest, "~") || len(c.Pointer) > maxPointer || checkText("", c.Pointer, 0, maxPointer) != nil {
		return &FieldError{Field: prefix + "pointer", Problem: fmt.Sprintf("%q is no JSON pointer", c.Pointer), Want: `one of RFC 6901: "/status", "/items/0/sku"`}
	}
	want, known := map[string]string{
		"eq": "a string, a number, true, false or null", "ne": "a string, a number, true, false or null",
		"in": fmt.Sprintf("an array of 1 to %d strings, numbers, true, false or null", maxChoices), "exists": "true or false",
		"gt": "a number", "ge": "a number", "lt": "a number", "le": "a number", "prefix": "a string",
	}[c.Op]
	if !known {
		return &FieldError{Field: prefix + "op", Problem: fmt.Sprintf("%q is no operation", c.Op), Want: "eq, ne, in, exists, gt, ge, lt, le or prefix"}
	}
	fail := func(problem string) error {
		return &FieldError{Field: prefix + "value", Problem: problem, Want: want}
	}
	var compact bytes.Buffer
	switch {
	case len(c.Value) == 0:
		return fail("is missing")
	case len(c.Value) > maxOperand:
		return fail(fmt.Sprintf("has %d bytes, of at most %d", len(c.Value), maxOperand))
	case json.Compact(&compact, c.Value) != nil || bytes.Contains(compact.Bytes(), []byte(`\u0000`)):
		return fail("is no JSON")
	}
	c.Value = compact.Bytes()
	if !suits(c.Op, c.Value) {
		return fail("does not suit the operation " + c.Op)
	}
	return nil
}

// suits tells whether the value is of the kind that the operation needs.
func suits(op string, value json.RawMessage) bool {
	switch kind := kindOf(value); op {
	case "in":
		var list []json.RawMessage
		return kind == '[' && json.Unmarshal(value, &list) == nil && len(list) > 0 && len(list) <= maxChoices &&
			!slices.ContainsFunc(list, func(v json.RawMessage) bool { return strings.ContainsRune("[{", rune(kindOf(v))) })
	case "exists":
		return kind == 't' || kind == 'f'
	case "gt", "ge", "lt", "le":
		return kind == '-' || kind >= '0' && kind <= '9'
	case "prefix":
		return kind == '"'
	default:
		return kind != '[' && kind != '{'
	}
}

// kindOf is the first character of a JSON value, which tells its kind.
func kindOf(value json.RawMessage) byte { return value[0] }

// checkTopics refuses topics that the app cannot get: fresh are those that it
// asks for, cat has all, others are its other subscriptions.
func (s *Subscription) checkTopics(app *App, cat *Catalog, fresh []string, others []Subscription, now time.Time) error {
	if len(s.Topics) == 0 || len(s.Topics) > maxTopics {
		return &FieldError{Field: "topics", Problem: fmt.Sprintf("has %d entries", len(s.Topics)), Want: fmt.Sprintf("1 to %d names of topics", maxTopics)}
	}
	for _, name := range fresh {
		t := cat.topic(name)
		switch {
		case t == nil:
			return &FieldError{Field: "topics", Problem: fmt.Sprintf("there is no topic %q", name), Want: `one of those that "topic list" shows`}
		case t.Status == Offline:
			return &FieldError{Field: "topics", Problem: fmt.Sprintf("the topic %s is offline", name), Want: "a topic that is online"}
		case !app.holds(t.Package, now):
			return &FieldError{Field: "topics", Problem: fmt.Sprintf("the topic %s is in the package %s, which the app does not hold", name, t.Package), Want: "a topic of a package that is granted to the app"}
		}
		for i := range others {
			if o := &others[i]; o.ID != s.ID && o.Environment == s.Environment && slices.Contains(o.Topics, name) {
				return fmt.Errorf("the app has the topic %s in its %s subscription %s already: %w", name, o.Environment, o.ID, ErrConflict)
			}
		}
	}
	return nil
}

// checkUsers refuses a subscription that no message can reach: it takes those of
// merchants alone, and none of its topics is about a merchant.
func (s *Subscription) checkUsers(cat *Catalog) error {
	if len(s.Filter.Users) == 0 {
		return nil
	}
	for _, name := range s.Topics {
		if t := cat.topic(name); t == nil || t.UserToken {
			return nil
		}
	}
	return &FieldError{Field: "filter.users", Problem: "the topics are public data, whose messages concern no merchant", Want: "no users, or a topic about merchants"}
}

// holds tells whether the app has the package, now or from some time on.
func (a *App) holds(pkg string, now time.Time) bool {
	return pkg == BasicPackage || slices.ContainsFunc(a.Packages, func(g PackageGrant) bool {
		return g.Package == pkg && g.State(now) != Expired
	})
}
