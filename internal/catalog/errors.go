package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	// maxErrors is how many mistakes are reported.
	maxErrors = 50
	// maxCollected is how many are collected before they are sorted by line.
	maxCollected = 1000
)

// Error is one mistake in a catalog.
type Error struct {
	// Source names the catalog.
	Source string
	// Line and Column count from 1; 0 where the place is not known.
	Line, Column int
	// Pointer is the place as a JSON pointer (RFC 6901); "" is the root.
	Pointer string
	// Problem says what is wrong.
	Problem string
	// Want says what to write instead.
	Want string
}

// Error gives place, problem and remedy in one line.
func (e *Error) Error() string {
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

// Errors are the mistakes of a catalog in the order of their lines, at most 50.
type Errors []*Error

// Error gives one mistake a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first mistake.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// sorted orders the mistakes by line and keeps the first ones.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e[:min(len(e), maxErrors)]
}

// add collects a mistake at node n.
func (e *Errors) add(source string, n *yaml.Node, pointer, want, problem string) {
	if len(*e) < maxCollected {
		*e = append(*e, &Error{source, n.Line, n.Column, pointer, problem, want})
	}
}

// fail collects a mistake at node n, whose pointer is ptr.
func (p *parser) fail(n *yaml.Node, ptr, want, format string, args ...any) {
	p.errs.add(p.source, n, ptr, want, fmt.Sprintf(format, args...))
}

// clip shortens what a user wrote to a length that an error can carry.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
