package platform

import (
	"encoding/json"
	"time"
)

// AuditEntry is one change: who did what to what, and what it was before and
// after. Secrets are masked in both.
type AuditEntry struct {
	// ID grows with time.
	ID int64     `json:"id"`
	At time.Time `json:"at"`
	// Actor is who made the change: "cli:root", "catalog:mall.openapi.yaml".
	Actor string `json:"actor"`
	// Action is what was done: "app.create", "secret.revoke".
	Action string `json:"action"`
	// Target is what it was done to: an app's ID, an API's ID.
	Target string          `json:"target"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// AuditFilter selects entries. Zero fields select everything.
type AuditFilter struct {
	Actor, Action, Target string
	Since, Until          time.Time
	// Limit is the largest number of entries, newest first; 0 means 100.
	Limit int
	// Before is an entry's ID: only older ones are listed. 0 for the newest.
	Before int64
}
