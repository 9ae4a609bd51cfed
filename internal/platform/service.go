package platform

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// ChangeKind tells what part of the domain a change touched.
type ChangeKind uint8

// The kinds of change.
const (
	// ChangeApp is a change of one app; Key is its appKey.
	ChangeApp ChangeKind = iota + 1
	// ChangeCatalog is a change of APIs, packages, plans, groups or the
	// platform's limits.
	ChangeCatalog
	// ChangeGrant is the end of a merchant's authorization; Key is the grant's
	// ID. Everything that hangs from it is void.
	ChangeGrant
	// ChangeToken is the revocation of one token or of all of a family; Key is
	// the family.
	ChangeToken
	// ChangeUser is a change of a merchant; Key is the user's ID.
	ChangeUser
	// ChangePush is a change of an app's subscriptions or push keys; Key is the
	// app's number in decimal.
	ChangePush
)

// Change tells caches what to load again.
type Change struct {
	Kind ChangeKind
	// Key names what changed, as the kind says; empty for ChangeCatalog.
	Key string
}

// catalogChange is a change that no app owns.
var catalogChange = Change{Kind: ChangeCatalog}

// ServiceOptions are what a service works with.
type ServiceOptions struct {
	// Store keeps the domain. Required.
	Store Store
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Rand is where IDs and secrets come from; nil means crypto/rand.
	Rand io.Reader
	// AllowHTTP tells whether callbacks to the host of a URL (a name or an
	// address, without a port) may go by http. Nil allows none: https alone.
	AllowHTTP func(host string) bool
	// OnChange is called after a change is committed and before the method
	// that made it returns. Nil means nobody listens.
	OnChange func(Change)
}

// Service is the only way in which the domain changes. Every change is
// checked, runs in one transaction of the store and leaves one entry in the
// audit log. A mistake in the input is a [FieldError]; other errors wrap
// ErrNotFound, ErrConflict or ErrUnavailable. It is safe for concurrent use.
type Service struct {
	store     Store
	now       func() time.Time
	rand      io.Reader
	allowHTTP func(host string) bool
	onChange  func(Change)
	hasher    hasher
	lockout   lockout
}

// NewService makes a service over o.Store.
func NewService(o ServiceOptions) *Service {
	s := &Service{store: o.Store, now: o.Now, rand: o.Rand, allowHTTP: o.AllowHTTP, onChange: o.OnChange, hasher: newHasher()}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	if s.allowHTTP == nil {
		s.allowHTTP = func(string) bool { return false }
	}
	if s.onChange == nil {
		s.onChange = func(Change) {}
	}
	return s
}

// clock is the time as the store keeps it: UTC, in whole microseconds, so
// that what a method returns equals what is read back later.
func (s *Service) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// event is what a change leaves in the audit log.
type event struct {
	action, target string
	// before and after become JSON; nil for nothing.
	before, after any
	// change is what caches must load again.
	change Change
}

// update runs one change: fn checks it against the state, writes it and says
// what it was. All nodes hear of it after it is committed, this one at once.
func (s *Service) update(ctx context.Context, actor string, fn func(Tx) (event, error)) error {
	if err := checkActor(actor); err != nil {
		return err
	}
	var ev event
	err := s.store.Update(ctx, func(tx Tx) error {
		var err error
		if ev, err = fn(tx); err != nil {
			return err
		}
		entry := &AuditEntry{At: s.clock(), Actor: actor, Action: ev.action, Target: ev.target}
		if entry.Before, err = auditJSON(ev.before); err != nil {
			return err
		}
		if entry.After, err = auditJSON(ev.after); err != nil {
			return err
		}
		if err := tx.AppendAudit(ctx, entry); err != nil {
			return err
		}
		return tx.Announce(ctx, ev.change)
	})
	if err != nil {
		return err
	}
	s.onChange(ev.change)
	return nil
}

// updateApp loads the app that ref names, lets fn edit it, and writes it.
func (s *Service) updateApp(ctx context.Context, actor, ref, action string, fn func(Tx, *App) error) (*App, error) {
	var app *App
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if app, err = findApp(ctx, tx, ref); err != nil {
			return event{}, err
		}
		before, err := auditJSON(app)
		if err != nil {
			return event{}, err
		}
		if err := fn(tx, app); err != nil {
			return event{}, err
		}
		app.UpdatedAt = s.clock()
		return event{action, app.ID, before, app, Change{ChangeApp, app.Key}}, tx.PutApp(ctx, app)
	})
	if err != nil {
		return nil, err
	}
	return app, nil
}

// findApp loads an app by its ID or its appKey.
func findApp(ctx context.Context, r Reader, ref string) (*App, error) {
	if strings.HasPrefix(ref, keyPrefix) {
		return r.AppByKey(ctx, ref)
	}
	return r.App(ctx, ref)
}

// auditJSON renders v for the audit log. Secrets mask themselves.
func auditJSON(v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case json.RawMessage:
		return v, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing the audit entry: %w", err)
	}
	return b, nil
}

// Audit lists changes, newest first. At most 1,000 entries come at a time.
func (s *Service) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	limit, err := checkLimit(f.Limit)
	if err != nil {
		return nil, err
	}
	f.Limit = limit
	for field, text := range map[string]string{"actor": f.Actor, "action": f.Action, "target": f.Target} {
		if err := checkText(field, text, 0, maxActor); err != nil {
			return nil, err
		}
	}
	return s.store.Audit(ctx, f)
}
