package platform

import "github.com/caddy-openplatform/openplatform/internal/limit"

// DefaultPlan applies to apps that name none.
const DefaultPlan = "default"

// Limits is a rate and calendar quotas. A zero part does not limit.
type Limits struct {
	Rate  limit.Rate  `json:"rate,omitzero"`
	Quota limit.Quota `json:"quota,omitzero"`
}

// Plan is what an app may use in a span of time.
type Plan struct {
	// Name is lower case: "default", "gold".
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// App limits all calls of the app together.
	App Limits `json:"app,omitzero"`
	// AppAPI limits the calls of the app to each API.
	AppAPI Limits `json:"app_api,omitzero"`
	// AppUser limits the calls of the app for each merchant.
	AppUser Limits `json:"app_user,omitzero"`
	// APIs limits the calls of the app to single APIs, by API name; it
	// replaces AppAPI for them.
	APIs map[string]Limits `json:"apis,omitempty"`
}
