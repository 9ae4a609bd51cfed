package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// SaveDevice saves a device that waits for a merchant. A user code that
// another device has is ErrConflict.
func (s *Store) SaveDevice(ctx context.Context, d *oauth.Device) error {
	err := s.issue(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, `INSERT INTO oauth_devices (hash, user_code, app, environment, scopes, resources, dpop_key, state,
				poll_interval, hasty, issued_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			d.Hash[:], d.UserCode[:], int64(d.App), d.Environment, listText(d.Scopes), listText(d.Resources), d.Key, oauth.DevicePending,
			oauth.PollInterval.Microseconds(), false, micros(d.IssuedAt), micros(d.ExpiresAt))
		return named(err, "device")
	})
	if err != nil {
		return fmt.Errorf("saving a device: %w", err)
	}
	return nil
}

// deviceQuery finds a device of an app that is still there.
const deviceQuery = `SELECT d.hash, d.user_code, d.app, a.app_key, d.environment, d.scopes, d.resources, d.dpop_key, d.state,
		d.user_id, d.grant_id, d.family, d.hasty, d.redeemed_at IS NOT NULL, d.issued_at, d.expires_at
	FROM oauth_devices d JOIN apps a ON a.number = d.app WHERE `

// Device loads a device by the hash of its device code, whatever became of it.
func (s *Store) Device(ctx context.Context, hash oauth.Hash) (*oauth.Device, error) {
	return s.device(ctx, `d.hash = ?`, hash[:])
}

// DeviceByUserCode finds the device that shows the user code, while no merchant
// has answered it and it has not expired.
func (s *Store) DeviceByUserCode(ctx context.Context, userCode oauth.Hash, env platform.Environment, now time.Time) (*oauth.Device, error) {
	return s.device(ctx, `d.user_code = ? AND d.environment = ? AND d.state = ? AND d.expires_at > ?`,
		userCode[:], env, oauth.DevicePending, now.UnixMicro())
}

func (s *Store) device(ctx context.Context, condition string, args ...any) (*oauth.Device, error) {
	var d *oauth.Device
	err := s.load(func(r *reader) error {
		return r.each(ctx, func(rows *sql.Rows) (err error) {
			d, err = scanDevice(rows)
			return err
		}, deviceQuery+condition, args...)
	})
	if err == nil && d == nil {
		err = platform.ErrNotFound
	}
	return d, named(err, "device")
}

func scanDevice(rows *sql.Rows) (*oauth.Device, error) {
	d := &oauth.Device{}
	var hash, userCode []byte
	var scopes, resources, user, grant, family sql.NullString
	var issued, expires sql.NullInt64
	err := rows.Scan(&hash, &userCode, &d.App, &d.AppKey, &d.Environment, &scopes, &resources, &d.Key, &d.State,
		&user, &grant, &family, &d.Hasty, &d.Redeemed, &issued, &expires)
	if err != nil {
		return nil, err
	}
	copy(d.Hash[:], hash)
	copy(d.UserCode[:], userCode)
	d.User, d.Grant, d.Family = user.String, grant.String, oauth.Family(family.String)
	d.IssuedAt, d.ExpiresAt = fromMicros(issued), fromMicros(expires)
	if d.Scopes, err = parseList(scopes); err != nil {
		return nil, err
	}
	d.Resources, err = parseList(resources)
	return d, err
}

// ApproveDevice makes the user's live grant for the app, or widens and prolongs
// it, and lets the device have tokens of the family d.Family: once, for a device
// that waits, else it is ErrConflict. It sets of g what is in force then, and
// d.Grant, d.User and d.State.
func (s *Store) ApproveDevice(ctx context.Context, g *platform.Grant, d *oauth.Device) error {
	made, err := s.authorize(ctx, g, d.Family, func(ctx context.Context, c *conn, made *platform.Grant, now time.Time) error {
		return c.answerDevice(ctx, `state = ?, user_id = ?, grant_id = ?, family = ?`, now, d.Hash,
			oauth.DeviceApproved, made.User, made.ID, string(d.Family))
	})
	if err != nil {
		return fmt.Errorf("approving a device: %w", err)
	}
	*g = *made
	d.State, d.User, d.Grant = oauth.DeviceApproved, made.User, made.ID
	return nil
}

// DenyDevice refuses a device that waits; else it is ErrConflict.
func (s *Store) DenyDevice(ctx context.Context, hash oauth.Hash, now time.Time) error {
	err := s.issue(ctx, func(ctx context.Context, c *conn) error {
		return c.answerDevice(ctx, `state = ?`, now, hash, oauth.DeviceDenied)
	})
	if err != nil {
		return fmt.Errorf("denying a device: %w", err)
	}
	return nil
}

// answerDevice takes a merchant's answer: of any number one is the first.
func (c *conn) answerDevice(ctx context.Context, set string, now time.Time, hash oauth.Hash, args ...any) error {
	n, err := c.exec(ctx, `UPDATE oauth_devices SET `+set+` WHERE hash = ? AND state = ? AND expires_at > ?`,
		append(args, hash[:], oauth.DevicePending, now.UnixMicro())...)
	if err == nil && n == 0 {
		err = platform.ErrConflict
	}
	return named(err, "device that waits")
}

// pollQuery notes that a device asked, whether it did so too early, and takes
// its code if a merchant has approved: of any number of callers one gets a row
// that is redeemed.
const pollQuery = `UPDATE oauth_devices SET
		polled_at = CAST(? AS BIGINT),
		hasty = coalesce(? < polled_at + poll_interval, FALSE),
		poll_interval = CASE WHEN ? < polled_at + poll_interval THEN poll_interval + CAST(? AS BIGINT) ELSE poll_interval END,
		redeemed_at = CASE WHEN state = ? AND expires_at > ? THEN CAST(? AS BIGINT) END
	WHERE hash = ? AND redeemed_at IS NULL
	RETURNING state, user_id, grant_id, family, hasty`

// PollDevice notes that the device asked, and takes its code out of the store
// where a merchant has approved it in time: once. A second time it revokes the
// family and returns oauth.ErrReplayed. It sets of d what may have changed since
// it was loaded.
func (s *Store) PollDevice(ctx context.Context, d *oauth.Device, now time.Time) error {
	found := false
	err := s.issue(ctx, func(ctx context.Context, c *conn) error {
		early := now.Add(oauth.PollTolerance).UnixMicro()
		return c.each(ctx, func(rows *sql.Rows) error {
			found = true
			var user, grant, family sql.NullString
			err := rows.Scan(&d.State, &user, &grant, &family, &d.Hasty)
			d.User, d.Grant, d.Family = user.String, grant.String, oauth.Family(family.String)
			return err
		}, pollQuery, now.UnixMicro(), early, early, oauth.SlowDown.Microseconds(),
			oauth.DeviceApproved, now.UnixMicro(), now.UnixMicro(), d.Hash[:])
	})
	if err != nil {
		return fmt.Errorf("polling for a device: %w", err)
	}
	if !found {
		return s.replayed(ctx, "device code", `SELECT family FROM oauth_devices WHERE hash = ?`, d.Hash)
	}
	return nil
}
