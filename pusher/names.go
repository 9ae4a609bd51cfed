package pusher

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The names of states and causes, by their numbers.
var (
	stateNames = []string{"pending", "delivering", "delivered", "failed", "suspended", "cancelled", "acknowledged"}
	causeNames = []string{"auto", "manual", "repush", "reset"}
)

// String is the state's name.
func (s State) String() string { return nameOf(stateNames, int(s)) }

// Final tells whether nothing happens to the delivery any more by itself.
func (s State) Final() bool { return s != Pending && s != Delivering && s != Suspended }

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's name.
func (s *State) UnmarshalText(text []byte) (err error) {
	*s, err = ParseState(string(text))
	return err
}

// ParseState reads the name of a state.
func ParseState(name string) (State, error) {
	i := slices.Index(stateNames, name)
	if i < 0 {
		return 0, &platform.FieldError{Field: "state", Problem: fmt.Sprintf("%q is no state", name), Want: strings.Join(stateNames, ", ")}
	}
	return State(i), nil
}

// String is the cause's name, as the header X-Open-Cause has it.
func (c Cause) String() string { return nameOf(causeNames, int(c)) }

// MarshalText writes the cause's name.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the cause's name.
func (c *Cause) UnmarshalText(text []byte) (err error) {
	*c, err = ParseCause(string(text))
	return err
}

// ParseCause reads the name of a cause.
func ParseCause(name string) (Cause, error) {
	i := slices.Index(causeNames, name)
	if i < 0 {
		return 0, &platform.FieldError{Field: "cause", Problem: fmt.Sprintf("%q is no cause", name), Want: strings.Join(causeNames, ", ")}
	}
	return Cause(i), nil
}

func nameOf(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown (%d)", i)
}
