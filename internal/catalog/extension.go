package catalog

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The extensions that each place of a document may carry. An operation has
// those of its path item as defaults, and a path item those of the root.
var (
	rootExtensions = []string{
		"x-open-packages", "x-open-package", "x-open-upstream", "x-open-rate", "x-open-quota",
	}
	pathExtensions = []string{
		"x-open-version", "x-open-package", "x-open-user-token", "x-open-status", "x-open-sunset",
		"x-open-upstream", "x-open-rate", "x-open-quota", "x-open-provider",
	}
	operationExtensions = append([]string{"x-open-name"}, pathExtensions...)
	// The gate never routes to a callout or a topic, so no upstream and no limit
	// applies to it.
	webhookExtensions = []string{
		"x-open-version", "x-open-package", "x-open-user-token", "x-open-status", "x-open-sunset", "x-open-provider", "x-open-topic",
	}
	webhookOperationExtensions = append([]string{"x-open-name"}, webhookExtensions...)
)

// settings are the values of the extensions at one place, defaults included.
type settings struct {
	name      string
	version   string
	pkg       string
	userToken bool
	status    platform.APIStatus
	sunset    time.Time
	upstream  string
	limits    platform.Limits
	provider  value
	topic     string
}

// settings reads the extensions of v over the defaults s. Where says in an
// error what v is.
func (p *parser) settings(v value, where string, allowed []string, s settings) settings {
	for e := range v.entries() {
		name := e.key.Value
		if lower := strings.ToLower(name); !strings.HasPrefix(lower, "x-open-") && !strings.HasPrefix(lower, "x-open_") {
			continue
		}
		if !slices.Contains(allowed, name) {
			p.unknownExtension(e, where, allowed)
			continue
		}
		switch name {
		case "x-open-name":
			s.name = p.apiName(e)
		case "x-open-version":
			s.version = p.version(e)
		case "x-open-package":
			s.pkg = p.packageName(e)
		case "x-open-user-token":
			s.userToken = p.boolean(e)
		case "x-open-status":
			s.status = p.status(e)
		case "x-open-sunset":
			s.sunset = p.date(e)
		case "x-open-upstream":
			s.upstream = p.upstream(e)
		case "x-open-rate":
			s.limits.Rate = p.rate(e)
		case "x-open-quota":
			s.limits.Quota = p.quota(e)
		case "x-open-provider":
			s.provider = e
		case "x-open-topic":
			s.topic = p.topicName(e)
		}
	}
	return s
}

// unknownExtension reports a misspelt extension with the closest name, and a
// misplaced one with the place it belongs to.
func (p *parser) unknownExtension(e value, where string, allowed []string) {
	if p.errs.Full() {
		return
	}
	name := e.key.Value
	want := closest(name, allowed)
	switch {
	case slices.Contains(allowed, want):
	case slices.Contains(operationExtensions, want):
		want += " at an operation"
	case slices.Contains(webhookOperationExtensions, want):
		want += " at a webhook"
	case slices.Contains(rootExtensions, want):
		want += " at the root"
	}
	p.fail(e.key, e.ptr, want, "%s has no extension %q", where, clip(name))
}

// closest returns the known extension that is most like name, rather one of
// the allowed.
func closest(name string, allowed []string) string {
	all := slices.Concat(operationExtensions, webhookOperationExtensions, rootExtensions)
	if slices.Contains(all, name) {
		return name
	}
	best, least := "", 1<<30
	for _, known := range slices.Concat(allowed, all) {
		if d := distance(clip(strings.ToLower(name)), known); d < least {
			best, least = known, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
