package adminapi

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	wantTime    = "RFC 3339: 2027-01-31T00:00:00Z"
	wantNetwork = "a network like 203.0.113.0/24; one address is 203.0.113.7/32"
)

// problem is the body of an error.
type problem struct {
	Error string `json:"error"`
	// Field is what the user wrote wrongly.
	Field string `json:"field,omitempty"`
	// Errors lists all mistakes of a catalog file, one a line.
	Errors []string `json:"errors,omitempty"`
}

// renderError answers a user's mistake with 400 and hands the rest to Caddy.
func renderError(w http.ResponseWriter, err error) error {
	if apiErr, ok := errors.AsType[caddy.APIError](err); ok {
		return apiErr
	}
	if mistakes, ok := errors.AsType[platform.CatalogErrors](err); ok {
		status := http.StatusBadRequest
		if errors.Is(err, platform.ErrConflict) {
			status = http.StatusConflict
		}
		p := problem{Error: fmt.Sprintf("the catalog file has mistakes: %d", len(mistakes))}
		for _, m := range mistakes {
			p.Errors = append(p.Errors, said(m))
		}
		writeJSON(w, status, p)
		return nil
	}
	if field, ok := errors.AsType[*platform.FieldError](err); ok {
		writeJSON(w, http.StatusBadRequest, problem{Error: err.Error(), Field: field.Field})
		return nil
	}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, platform.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, platform.ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, platform.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	return caddy.APIError{HTTPStatus: status, Err: errors.New(said(err))}
}

// said is an error in words, without the kind of it that stands before or behind a
// sentence: the status tells that.
func said(err error) string {
	kind := platform.ErrConflict.Error()
	return strings.TrimPrefix(strings.TrimSuffix(err.Error(), ": "+kind), kind+": ")
}

// strict reads JSON in which no member may be unknown.
func strict(data []byte, dst any) (*json.Decoder, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec, dec.Decode(dst)
}

// mistakeIn finds what is wrong with a field that cannot be read as a t; nil if
// it can. When a type's own method refuses a value encoding/json does not say
// where that is, so the members are read one by one.
func mistakeIn(field string, data []byte, t reflect.Type) *platform.FieldError {
	_, err := strict(data, reflect.New(t).Interface())
	if err == nil {
		return nil
	}
	for m := range members(data, t) {
		if found := mistakeIn(below(field, m.name), m.data, m.is); found != nil {
			return found
		}
	}
	return worded(field, data, t, err)
}

// member is an element of a JSON value, and the type to read it as.
type member struct {
	name string
	data json.RawMessage
	is   reflect.Type
}

// members yields those that a t reads, unless it reads itself.
func members(data []byte, t reflect.Type) iter.Seq[member] {
	return func(yield func(member) bool) {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if readsItself(t) {
			return
		}
		var list []json.RawMessage
		if t.Kind() == reflect.Slice && json.Unmarshal(data, &list) == nil {
			for i, item := range list {
				if !yield(member{fmt.Sprintf("[%d]", i), item, t.Elem()}) {
					return
				}
			}
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(data, &object) != nil {
			return
		}
		switch t.Kind() {
		case reflect.Map:
			for _, name := range slices.Sorted(maps.Keys(object)) {
				if !yield(member{name, object[name], t.Elem()}) {
					return
				}
			}
		case reflect.Struct:
			for _, f := range reflect.VisibleFields(t) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if item, ok := object[name]; ok && !yield(member{name, item, f.Type}) {
					return
				}
			}
		}
	}
}

// readsItself tells whether a type has a method that reads it.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// below names a member of a field: "rules[0].prefix".
func below(field, name string) string {
	if field == "" || name == "" || strings.HasPrefix(name, "[") {
		return field + name
	}
	return field + "." + name
}

// worded says for the user why a field cannot be read as a t.
func worded(field string, data []byte, t reflect.Type, err error) *platform.FieldError {
	refuse := func(field, want, format string, args ...any) *platform.FieldError {
		if field == "" {
			field = "body"
		}
		return &platform.FieldError{Field: field, Problem: fmt.Sprintf(format, args...), Want: want}
	}
	if inner, ok := errors.AsType[*platform.FieldError](err); ok {
		if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) { // else it is the field itself that is refused
			field = below(field, inner.Field)
		}
		return refuse(field, inner.Want, "%s", inner.Problem)
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return refuse(field, wantTime, "%.100s is no time", data)
	case reflect.TypeFor[netip.Prefix]():
		return refuse(field, wantNetwork, "%.100s is no network", data)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return refuse(below(field, wrong.Field), jsonKind(wrong), "is a JSON %s", wrong.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "json: unknown field "); ok {
		return refuse(below(field, strings.Trim(name, `"`)), fieldsOf(t), "unknown field")
	}
	if broken, ok := errors.AsType[*json.SyntaxError](err); ok {
		return refuse(field, "one JSON object", "no valid JSON at byte %d: %v", broken.Offset, broken)
	}
	return refuse(field, "", "%v", err)
}

// fieldsOf lists what an object that is read as a t may have.
func fieldsOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names []string
	if t.Kind() == reflect.Struct && !readsItself(t) {
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return "one of the fields of the reference"
	}
	return "one of " + strings.Join(names, ", ")
}

func jsonKind(wrong *json.UnmarshalTypeError) string {
	switch k := wrong.Type.Kind().String(); k {
	case "struct", "map":
		return "an object"
	case "slice":
		return "an array"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	default:
		if strings.HasPrefix(k, "int") || strings.HasPrefix(k, "uint") {
			return "a whole number"
		}
		return k
	}
}
