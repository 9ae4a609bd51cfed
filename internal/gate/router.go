package gate

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// router finds the API of a method and a raw path. A literal segment beats a
// {parameter}, as in http.ServeMux; the catalog keeps templates apart that
// would then still be ambiguous. It is immutable once the snapshot is built.
type router struct {
	root node
}

type node struct {
	literal   map[string]*node
	parameter *node
	methods   map[string]*api
}

// add enters an API under its method and path template. One that is offline
// makes room for another.
func (r *router) add(a *api) error {
	n := &r.root
	for segment := range strings.SplitSeq(strings.TrimPrefix(a.Path, "/"), "/") {
		if strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}") {
			if n.parameter == nil {
				n.parameter = &node{}
			}
			n = n.parameter
			continue
		}
		next := n.literal[segment]
		if next == nil {
			next = &node{}
			if n.literal == nil {
				n.literal = map[string]*node{}
			}
			n.literal[segment] = next
		}
		n = next
	}
	if other := n.methods[a.Method]; other != nil {
		// An API that went offline may have left its place to another one.
		switch platform.Offline {
		case a.Status:
			return nil
		case other.Status:
		default:
			return fmt.Errorf("%s and %s share %s %s", other.ID(), a.ID(), a.Method, a.Path)
		}
	}
	if n.methods == nil {
		n.methods = map[string]*api{}
	}
	n.methods[a.Method] = a
	return nil
}

// find returns the API, or the methods that the path does take, or neither.
// The path is raw and has passed checkPath. GET serves HEAD too, where no API
// of its own does.
func (r *router) find(method, rawPath string) (*api, []string) {
	var allowed []string
	found := r.root.find(method, rawPath[1:], &allowed)
	if found != nil {
		return found, nil
	}
	slices.Sort(allowed)
	return nil, slices.Compact(allowed)
}

func (n *node) find(method, rest string, allowed *[]string) *api {
	segment, rest, more := strings.Cut(rest, "/")
	if next := n.literal[decoded(segment)]; next != nil {
		if a := next.step(method, rest, more, allowed); a != nil {
			return a
		}
	}
	if n.parameter != nil && segment != "" {
		return n.parameter.step(method, rest, more, allowed)
	}
	return nil
}

func (n *node) step(method, rest string, more bool, allowed *[]string) *api {
	if more {
		return n.find(method, rest, allowed)
	}
	if a := n.methods[method]; a != nil {
		return a
	}
	if a := n.methods[http.MethodGet]; a != nil && method == http.MethodHead {
		return a
	}
	for m := range n.methods {
		*allowed = append(*allowed, m)
		if m == http.MethodGet {
			*allowed = append(*allowed, http.MethodHead)
		}
	}
	return nil
}

// decoded unescapes a segment, whose escapes checkPath has found to be sound.
func decoded(segment string) string {
	if strings.IndexByte(segment, '%') < 0 {
		return segment
	}
	s, err := url.PathUnescape(segment)
	if err != nil {
		return segment
	}
	return s
}

// checkPath refuses a raw path that two readers could understand differently,
// raw or decoded: it is never cleaned, since what was signed is what is
// matched and forwarded.
func checkPath(raw string) error {
	if raw == "" || raw[0] != '/' {
		return errors.New("the path must begin with a slash")
	}
	if strings.IndexByte(raw, '%') >= 0 {
		plain, err := url.PathUnescape(raw)
		if err != nil {
			return errors.New("the path holds a bad percent escape")
		}
		// Overlong forms of dot and slash among it.
		if !utf8.ValidString(plain) {
			return errors.New("the path is not UTF-8")
		}
		if err := checkSegments(plain); err != nil {
			return err
		}
	}
	return checkSegments(raw)
}

func checkSegments(path string) error {
	if len(path) == 1 {
		return nil
	}
	start := 1
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			switch c := path[i]; {
			case c == '\\':
				return errors.New("the path holds a backslash")
			case c < 0x20 || c == 0x7f:
				return errors.New("the path holds a control character")
			}
			continue
		}
		// Java servers leave out what follows a semicolon: "..;" is ".." to them.
		name, _, _ := strings.Cut(path[start:i], ";")
		switch name {
		case "":
			return errors.New("the path holds an empty segment")
		case ".", "..":
			return errors.New("the path holds a dot segment")
		}
		start = i + 1
	}
	return nil
}
