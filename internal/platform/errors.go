package platform

import (
	"errors"
	"fmt"
)

// The kinds of failure of the service. Errors wrap at most one of them.
var (
	// ErrNotFound: the thing named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the change goes against the state: a name that is taken,
	// a third live secret.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: the store cannot be reached.
	ErrUnavailable = errors.New("store unavailable")
)

// FieldError is a user's mistake in one field.
type FieldError struct {
	// Field is the name that the user wrote: "name", "rate.period".
	Field string
	// Problem says what is wrong.
	Problem string
	// Want says what to write instead.
	Want string
}

// Error names the field, the problem and the remedy.
func (e *FieldError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("%s: %s", e.Field, e.Problem)
	}
	return fmt.Sprintf("%s: %s; want %s", e.Field, e.Problem, e.Want)
}
