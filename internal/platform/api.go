package platform

import (
	"encoding/json"
	"strings"
	"time"
)

// Provider tells who answers an API.
type Provider string

// The providers.
const (
	// ByPlatform marks an API that apps call through the gate.
	ByPlatform Provider = "platform"
	// ByMerchant marks a callout: an interface that the merchant serves and
	// the platform calls. The gate never routes to it.
	ByMerchant Provider = "merchant"
)

// APIStatus is where an API stands in its life.
type APIStatus string

// The states of an API, in the order of its life.
const (
	Draft      APIStatus = "draft"
	Online     APIStatus = "online"
	Deprecated APIStatus = "deprecated"
	Offline    APIStatus = "offline"
)

// BasicPackage is granted to every app.
const BasicPackage = "basic"

// API is one operation of the catalog. Name and Version identify it.
type API struct {
	// Name is words joined by dots: "trade.order.get". Upper case counts, since
	// the dialects of other platforms carry names such as "order.searchList".
	Name string `json:"name"`
	// Version is "1.0", "2.0", ...
	Version string `json:"version"`
	Title   string `json:"title,omitempty"`
	// Method is the HTTP method, upper case.
	Method string `json:"method"`
	// Path is the template: "/v1/orders/{order_id}". A {name} matches one segment.
	Path     string   `json:"path"`
	Provider Provider `json:"provider"`
	// Package is the permission package that it belongs to.
	Package string `json:"package"`
	// UserToken says that a merchant's authorization is needed.
	UserToken bool      `json:"user_token,omitempty"`
	Status    APIStatus `json:"status"`
	// DeprecatedAt and Sunset date a deprecation (RFC 9745, RFC 8594).
	DeprecatedAt time.Time `json:"deprecated_at,omitzero"`
	Sunset       time.Time `json:"sunset,omitzero"`
	// Upstream is the business service, "host:port"; "" leaves it to the route.
	Upstream string `json:"upstream,omitempty"`
	// Rate and Quota limit all calls of the API together.
	Limits Limits `json:"limits,omitzero"`
	// Example answers calls in the sandbox.
	Example Example `json:"example,omitzero"`
	// Spec is the operation as the catalog file has it, for the documentation.
	Spec json.RawMessage `json:"spec,omitempty"`
	// Source names the catalog that it came from.
	Source string `json:"source,omitempty"`
}

// ID is the API's identity: "trade.order.get@1.0".
func (a *API) ID() string { return a.Name + "@" + a.Version }

// settleStatus fills in what the file leaves open from the stored API; a new
// one is online. It must see the API before it replaces the stored one.
func (a *API) settleStatus(old *API, now time.Time) {
	a.Sunset, a.DeprecatedAt = storeTime(a.Sunset), storeTime(a.DeprecatedAt)
	stated := a.Status
	switch {
	case stated == "" && old.Status == "":
		a.Status = Online
	case stated == "":
		a.Status = old.Status
		if a.Sunset.IsZero() {
			a.Sunset = old.Sunset
		}
	}
	switch {
	case a.Status == Draft || a.Status == Online:
		a.DeprecatedAt, a.Sunset = time.Time{}, time.Time{}
	case a.DeprecatedAt.IsZero() && !old.DeprecatedAt.IsZero():
		a.DeprecatedAt = old.DeprecatedAt
	case a.DeprecatedAt.IsZero() && a.Status == Deprecated:
		a.DeprecatedAt = now
	}
}

// PlainVersion is the same for versions that calls cannot tell apart: the gate
// takes "1" for "1.0" too.
func PlainVersion(version string) string { return strings.TrimSuffix(version, ".0") }

// Example is an answer of an API, for the sandbox.
type Example struct {
	Status      int    `json:"status,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Body        []byte `json:"body,omitempty"`
}

// Package is a set of APIs that is granted as one. Its name is the scope that
// a merchant authorizes.
type Package struct {
	// Name is lower case: "trade".
	Name        string `json:"name"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Source names the catalog that it came from; "" when staff made it.
	Source string `json:"source,omitempty"`
}

// IPGroup is a named list of addresses, shared by apps and routes.
type IPGroup struct {
	Name  string   `json:"name"`
	Rules []IPRule `json:"rules"`
}

// MarshalJSON writes no rules as [], not as null.
func (g IPGroup) MarshalJSON() ([]byte, error) {
	type plain IPGroup
	if g.Rules == nil {
		g.Rules = []IPRule{}
	}
	return json.Marshal(plain(g))
}

// APIFilter selects APIs in a list. Zero fields select everything.
type APIFilter struct {
	Status  APIStatus
	Package string
	// Text is a part of the name, the title or the path.
	Text string
}
