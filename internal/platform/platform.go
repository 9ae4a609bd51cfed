// Package platform is the domain of the open platform: apps, APIs, packages,
// plans and their rules, and the service through which all of them change.
// Handlers, admin API, command line and pages share it. It knows neither
// Caddy nor SQL: a [Store] keeps what it decides.
package platform

import (
	"fmt"
	"time"
)

// Environment is where a call runs. A credential of one environment is never
// accepted in the other.
type Environment string

// The two environments.
const (
	Sandbox    Environment = "sandbox"
	Production Environment = "production"
)

// ParseEnvironment returns the constant of an environment's name, which keeps
// nothing of s.
func ParseEnvironment(s string) (Environment, error) {
	switch Environment(s) {
	case Sandbox:
		return Sandbox, nil
	case Production:
		return Production, nil
	}
	return "", &FieldError{Field: "environment", Problem: fmt.Sprintf("%q is no environment", s), Want: "sandbox or production"}
}

// Page bounds a list: at most Limit rows after the row named After.
type Page struct {
	// Limit is the largest number of rows; 0 means 100, 1,000 is the most.
	Limit int
	// After is the last ID of the page before; empty for the first page.
	After string
}

// Period is a span of validity. A zero From or Until leaves that end open.
type Period struct {
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// State tells where now lies: before, within or after the period.
func (p Period) State(now time.Time) PeriodState {
	switch {
	case !p.From.IsZero() && now.Before(p.From):
		return NotYet
	case !p.Until.IsZero() && !now.Before(p.Until):
		return Expired
	}
	return Current
}

// PeriodState is where a moment lies against a period.
type PeriodState uint8

// The three states of a period.
const (
	Current PeriodState = iota
	NotYet
	Expired
)
