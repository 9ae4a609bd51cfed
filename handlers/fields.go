package handlers

import (
	"go.uber.org/zap/zapcore"
)

// placeholderPrefix begins the names of all placeholders of the gate.
const placeholderPrefix = "http.open_platform."

// placeholder answers {http.open_platform.*}. Identity placeholders are empty
// until the stage that establishes them has passed.
func (x *exchange) placeholder(key string) (any, bool) {
	if len(key) <= len(placeholderPrefix) || key[:len(placeholderPrefix)] != placeholderPrefix {
		return nil, false
	}
	switch key[len(placeholderPrefix):] {
	case "request_id":
		return x.call.RequestID, true
	case "environment":
		return string(x.call.Environment), true
	case "user.id":
		return x.call.User().ID, true
	case "error":
		if r := x.call.Refusal; r != nil {
			return r.Code.Name, true
		}
		return "", true
	case "stage":
		if r := x.call.Refusal; r != nil {
			return string(r.Stage), true
		}
		return "", true
	}
	return x.identityPlaceholder(key[len(placeholderPrefix):])
}

func (x *exchange) identityPlaceholder(key string) (any, bool) {
	app, api := x.call.App(), x.call.API()
	switch key {
	case "app.id", "app.key", "app.name", "app.kind":
		if app == nil {
			return "", true
		}
	case "api.name", "api.version", "upstream":
		if api == nil {
			return "", true
		}
	}
	switch key {
	case "app.id":
		return app.ID, true
	case "app.key":
		return app.Key, true
	case "app.name":
		return app.Name, true
	case "app.kind":
		return string(app.Kind), true
	case "api.name":
		return api.Name, true
	case "api.version":
		return api.Version, true
	case "upstream":
		return api.Upstream, true
	}
	return nil, false
}

// MarshalLogObject adds the call's fields to the access log.
func (x *exchange) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("request_id", x.call.RequestID)
	if app := x.call.App(); app != nil {
		enc.AddString("app_id", app.ID)
		enc.AddString("app_key", app.Key)
		enc.AddString("environment", string(x.call.Environment))
	}
	if api := x.call.API(); api != nil {
		enc.AddString("api", api.Name)
		enc.AddString("api_version", api.Version)
	}
	if user := x.call.User(); user.ID != "" {
		enc.AddString("merchant", user.ID)
	}
	if r := x.call.Refusal; r != nil {
		enc.AddString("stage", string(r.Stage))
		enc.AddString("code", r.Code.Name)
	}
	return nil
}
