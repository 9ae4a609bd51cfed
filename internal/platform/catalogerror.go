package platform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxCatalogErrors is how many mistakes of a file are reported.
	maxCatalogErrors = 50
	// maxCollected is how many are collected before they are sorted by line.
	maxCollected = 1000
)

// Position is a place in a catalog file.
type Position struct {
	// Line and Column count from 1; 0 where the place is not known.
	Line, Column int
	// Pointer is the place as a JSON pointer (RFC 6901); "" is the root.
	Pointer string
}

// CatalogError is one mistake in a catalog file.
type CatalogError struct {
	// Source names the file.
	Source string
	Position
	// Problem says what is wrong.
	Problem string
	// Want says what to write instead.
	Want string
	// Err is the error of the service, if it is the one that refuses the file.
	Err error
}

// Error gives place, problem and remedy in one line.
func (e *CatalogError) Error() string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Pointer != "" {
		b.WriteString(e.Pointer + ": ")
	}
	b.WriteString(e.Problem)
	if e.Want != "" {
		b.WriteString("; want " + e.Want)
	}
	return b.String()
}

// Unwrap is the error of the service.
func (e *CatalogError) Unwrap() error { return e.Err }

// CatalogErrors are the mistakes of a catalog file.
type CatalogErrors []*CatalogError

// Error gives one mistake a line.
func (e CatalogErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first mistake.
func (e CatalogErrors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Add collects a mistake, as far as there is room.
func (e *CatalogErrors) Add(one *CatalogError) {
	if !e.Full() {
		*e = append(*e, one)
	}
}

// Full tells whether no more mistakes are collected.
func (e CatalogErrors) Full() bool { return len(e) >= maxCollected }

// Sorted orders the mistakes by line and keeps the first ones. One that was met
// on several ways, as a $ref leads to, is told once.
func (e CatalogErrors) Sorted() CatalogErrors {
	type place struct {
		Position
		problem string
	}
	seen := map[place]bool{}
	e = slices.DeleteFunc(e, func(one *CatalogError) bool {
		at := place{one.Position, one.Problem}
		again := seen[at]
		seen[at] = true
		return again
	})
	slices.SortStableFunc(e, func(a, b *CatalogError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e[:min(len(e), maxCatalogErrors)]
}

// mistake is err at the place where the file declares a thing.
func (f *CatalogFile) mistake(kind, name string, err error) *CatalogError {
	return &CatalogError{Source: f.Source, Position: f.Positions[kind+" "+name], Problem: err.Error(), Err: err}
}

// noPackage is the mistake of naming a package that there will not be.
func noPackage(field, name string) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf("there is no package %q", name), Want: "a package that the file or the platform has"}
}

// declaredAlready is the mistake of declaring what another file has.
func declaredAlready(what, source, owner string) error {
	return fmt.Errorf("%s of %s is declared in %s already: %w", what, source, sourceName(owner), ErrConflict)
}

// sourceName says who declared something.
func sourceName(source string) string {
	if source == "" {
		return "the platform itself"
	}
	return source
}
