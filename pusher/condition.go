package pusher

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// filter is a platform.MessageFilter made ready. Its zero value takes all.
type filter struct {
	users      []string // sorted
	conditions []condition
}

// condition is one comparison. A value that the data lacks is not equal to
// anything, so it fulfils ne and exists false alone.
type condition struct {
	path   []string
	op     string
	values []any
}

func newFilter(f platform.MessageFilter) (filter, error) {
	out := filter{users: slices.Sorted(slices.Values(f.Users))}
	for i, c := range f.Conditions {
		ready, err := newCondition(c)
		if err != nil {
			return filter{}, fmt.Errorf("condition %d: %w", i+1, err)
		}
		out.conditions = append(out.conditions, ready)
	}
	return out, nil
}

func newCondition(c platform.Condition) (condition, error) {
	out := condition{op: c.Op}
	if c.Pointer != "" {
		if c.Pointer[0] != '/' {
			return out, fmt.Errorf("%q is no JSON pointer", c.Pointer)
		}
		for token := range strings.SplitSeq(c.Pointer[1:], "/") {
			out.path = append(out.path, strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
		}
	}
	var value any = true // what exists is compared with where nothing is said
	if len(c.Value) > 0 {
		var err error
		if value, err = decode(c.Value); err != nil {
			return out, fmt.Errorf("its value is no JSON: %w", err)
		}
	}
	switch list, isList := value.([]any); {
	case c.Op == "in":
		if !isList {
			return out, fmt.Errorf("%q is no array", c.Value)
		}
		out.values = list
	case slices.Contains([]string{"eq", "ne", "exists", "gt", "ge", "lt", "le", "prefix"}, c.Op):
		out.values = []any{value}
	default:
		return out, fmt.Errorf("there is no operator %q", c.Op)
	}
	return out, nil
}

// document is a message's data, decoded once where a filter needs it.
type document struct {
	raw     []byte
	decoded bool
	value   any
}

func (d *document) get() any {
	if !d.decoded {
		d.decoded = true
		d.value, _ = decode(d.raw) // it was found to be JSON
	}
	return d.value
}

func decode(raw []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// takes tells whether the filter lets a message pass.
func (f *filter) takes(user string, d *document) bool {
	if len(f.users) > 0 {
		if _, found := slices.BinarySearch(f.users, user); !found {
			return false
		}
	}
	for i := range f.conditions {
		if !f.conditions[i].holds(d.get()) {
			return false
		}
	}
	return true
}

func (c *condition) holds(data any) bool {
	got, found := lookUp(data, c.path)
	switch c.op {
	case "exists":
		return found == (c.values[0] != false)
	case "ne":
		return !found || !same(got, c.values[0])
	}
	if !found {
		return false
	}
	switch c.op {
	case "eq":
		return same(got, c.values[0])
	case "in":
		return slices.ContainsFunc(c.values, func(v any) bool { return same(got, v) })
	case "prefix":
		text, ok1 := got.(string)
		prefix, ok2 := c.values[0].(string)
		return ok1 && ok2 && strings.HasPrefix(text, prefix)
	}
	n, ok := order(got, c.values[0])
	if !ok {
		return false
	}
	switch c.op {
	case "gt":
		return n > 0
	case "ge":
		return n >= 0
	case "lt":
		return n < 0
	}
	return n <= 0
}

// lookUp follows a pointer (RFC 6901 section 4).
func lookUp(v any, path []string) (any, bool) {
	for _, token := range path {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[token]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.ParseUint(token, 10, 31)
			if err != nil || int(i) >= len(x) || token != strconv.FormatUint(i, 10) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// same compares scalars; objects and arrays are the same as nothing.
func same(a, b any) bool {
	switch a.(type) {
	case nil, bool:
		return a == b
	}
	n, ok := order(a, b)
	return ok && n == 0
}

// order compares two numbers, or two strings by their bytes. Whole numbers of 64
// bits are compared exactly, others as floating point.
func order(a, b any) (int, bool) {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return strings.Compare(x, y), ok
	case json.Number:
		y, ok := b.(json.Number)
		if !ok {
			return 0, false
		}
		i, err1 := strconv.ParseInt(string(x), 10, 64)
		j, err2 := strconv.ParseInt(string(y), 10, 64)
		if err1 == nil && err2 == nil {
			return cmp.Compare(i, j), true
		}
		f, err1 := strconv.ParseFloat(string(x), 64)
		g, err2 := strconv.ParseFloat(string(y), 64)
		return cmp.Compare(f, g), err1 == nil && err2 == nil
	}
	return 0, false
}
