package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Audit lists changes, newest first.
func (r *reader) Audit(ctx context.Context, f platform.AuditFilter) ([]platform.AuditEntry, error) {
	entries := []platform.AuditEntry{}
	if !storable(f.Actor + f.Action + f.Target) {
		return entries, nil
	}
	query, args := auditQuery(f)
	err := r.each(ctx, func(rows *sql.Rows) error {
		var e platform.AuditEntry
		var at sql.NullInt64
		var before, after []byte
		err := rows.Scan(&e.ID, &at, &e.Actor, &e.Action, &e.Target, &before, &after)
		e.At, e.Before, e.After = fromMicros(at), json.RawMessage(before), json.RawMessage(after)
		entries = append(entries, e)
		return err
	}, query, args...)
	return entries, err
}

// auditQuery asks for what the filter selects. Bounds of time leave whole
// partitions out.
func auditQuery(f platform.AuditFilter) (query string, args []any) {
	where := []string{"1 = 1"}
	add := func(condition string, arg any) {
		where, args = append(where, condition), append(args, arg)
	}
	if f.Actor != "" {
		add("actor = ?", f.Actor)
	}
	if f.Action != "" {
		add("action = ?", f.Action)
	}
	if f.Target != "" {
		add("target = ?", f.Target)
	}
	if !f.Since.IsZero() {
		add("at >= ?", f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		add("at < ?", f.Until.UnixMicro())
	}
	if f.Before > 0 {
		add("id < ?", f.Before)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	return `SELECT id, at, actor, action, target, before_json, after_json FROM audit
		WHERE ` + strings.Join(where, " AND ") + ` ORDER BY id DESC LIMIT ?`, append(args, limit)
}

// AppendAudit adds an entry and sets its ID.
func (t *tx) AppendAudit(ctx context.Context, e *platform.AuditEntry) error {
	if err := t.room(ctx, auditSeries, e.At); err != nil {
		return err
	}
	return t.one(ctx, []any{&e.ID}, `INSERT INTO audit (at, actor, action, target, before_json, after_json)
		VALUES (?, ?, ?, ?, ?, ?) RETURNING id`,
		micros(e.At), e.Actor, e.Action, e.Target, orNull(string(e.Before)), orNull(string(e.After)))
}
