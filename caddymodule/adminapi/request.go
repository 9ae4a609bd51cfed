package adminapi

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// decode reads the JSON body into dst. Unknown fields, wrong types, trailing
// data and an absent body are errors that name the field.
func decode(r *http.Request, dst any) error {
	data, err := readBody(r)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return &platform.FieldError{Field: "body", Problem: "empty", Want: "a JSON object"}
	}
	return decodeJSON(data, dst)
}

// decodeOptional is decode, but an absent body leaves dst as it is.
func decodeOptional(r *http.Request, dst any) error {
	data, err := readBody(r)
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return err
	}
	return decodeJSON(data, dst)
}

func decodeJSON(data []byte, dst any) error {
	dec, err := strict(data, dst)
	if err != nil {
		return mistakeIn("", data, reflect.TypeOf(dst).Elem())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &platform.FieldError{Field: "body", Problem: "data after the JSON object", Want: "one JSON object"}
	}
	return nil
}

// query returns the query parameters; one that is not among names is an error.
func query(r *http.Request, names ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &platform.FieldError{Field: "query", Problem: err.Error(), Want: "name=value&…, percent-encoded"}
	}
	for name, all := range values {
		if !slices.Contains(names, name) {
			want := "no query"
			if len(names) > 0 {
				want = "one of " + strings.Join(names, ", ")
			}
			return nil, &platform.FieldError{Field: name, Problem: "unknown query parameter", Want: want}
		}
		if len(all) > 1 {
			return nil, &platform.FieldError{Field: name, Problem: "given more than once", Want: "one value"}
		}
	}
	return values, nil
}

// oneOf checks a query parameter against its words; "" passes.
func oneOf(q url.Values, name string, words ...string) (string, error) {
	v := q.Get(name)
	if v == "" || slices.Contains(words, v) {
		return v, nil
	}
	return "", &platform.FieldError{Field: name, Problem: fmt.Sprintf("%q is unknown", v), Want: strings.Join(words, ", ")}
}

// number reads a query parameter as a whole number from 0; absent is 0.
func number(q url.Values, name string) (int, error) {
	v := q.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, &platform.FieldError{Field: name, Problem: fmt.Sprintf("%q is no number", v), Want: "a whole number from 0"}
	}
	return n, nil
}

// maxRows is the longest list that one request gets.
const maxRows = 1000

// rows reads how long a list may be; absent is 100.
func rows(q url.Values) (int, error) {
	n, err := number(q, "limit")
	if n > maxRows {
		return 0, &platform.FieldError{Field: "limit", Problem: fmt.Sprintf("%d is too many", n), Want: fmt.Sprintf("at most %d", maxRows)}
	}
	return cmp.Or(n, 100), err
}

// duration reads a query parameter as a duration from 0; absent is 0.
func duration(q url.Values, name string) (time.Duration, error) {
	v := q.Get(name)
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, &platform.FieldError{Field: name, Problem: fmt.Sprintf("%q is no duration", v), Want: "24h, 30m, …"}
	}
	return d, nil
}

// moment reads a query parameter as a time; absent is the zero time.
func moment(q url.Values, name string) (time.Time, error) {
	v := q.Get(name)
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}, &platform.FieldError{Field: name, Problem: fmt.Sprintf("%q is no time", v), Want: wantTime}
	}
	return t, nil
}

// pathName checks that a body names the same thing as its path, or nothing.
func pathName(r *http.Request, inBody string) (string, error) {
	name := r.PathValue("name")
	if inBody != "" && inBody != name {
		return "", &platform.FieldError{Field: "name", Problem: fmt.Sprintf("%q in the body, %q in the path", inBody, name), Want: "the same name, or none in the body"}
	}
	return name, nil
}
