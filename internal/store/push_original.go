package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Original loads a message, to encrypt it anew. Its digest is not kept.
func (s *Store) Original(ctx context.Context, id pusher.MessageID) (*pusher.Message, error) {
	m := &pusher.Message{ID: id}
	var user, key, idempotency sql.NullString
	var time sql.NullInt64
	err := s.load(func(r *reader) error {
		return r.one(ctx, []any{&m.Environment, &m.Topic, &user, &key, &time, &m.Data, &idempotency},
			`SELECT environment, topic, user_id, order_key, time, data, idempotency FROM push_messages WHERE at = ? AND id = ?`, id.At, id.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("loading a message: %w", err)
	}
	m.User, m.Key, m.Idempotency, m.Time = user.String, key.String, idempotency.String, fromMicros(time)
	return m, nil
}

const (
	// grantHolds holds for a grant that gives an app messages at the time that
	// follows. A disabled merchant's do not, as its tokens do not.
	grantHolds = `g.revoked_at IS NULL AND NOT EXISTS (SELECT 1 FROM users m WHERE m.id = g.user_id AND m.status = 'disabled') AND g.expires_at > `

	grantedPostgres = `SELECT g.id, g.user_id, a.id, g.app, g.environment, g.scopes, g.created_at, g.expires_at
		FROM unnest($1::text[]) AS u (id) JOIN grants g ON g.user_id = u.id JOIN apps a ON a.number = g.app
		WHERE g.environment = $2 AND ` + grantHolds + sqlNow
	grantedSQLite = grantQuery + ` WHERE g.user_id IN ` + listed + ` AND g.environment = ? AND ` + grantHolds + `?`
)

// onlyGranted leaves out deliveries d that need a grant which does not hold now.
// The condition is a value: for an EXISTS PostgreSQL may read the grants of all.
func (s *Store) onlyGranted(where *conditions) {
	now, args := s.sqlTime()
	where.add(`(d.grant_id IS NULL OR (SELECT 1 FROM grants g WHERE g.id = d.grant_id AND `+grantHolds+now+`) = 1)`, args...)
}

// onlyEntitled leaves out deliveries d that would not be made now, as their app, its
// subscription and the merchant stand.
func (s *Store) onlyEntitled(where *conditions) {
	s.onlyGranted(where)
	where.add(`(SELECT 1 FROM subscription_topics st WHERE st.app = d.app AND st.environment = d.environment AND st.topic = d.topic
		AND st.subscription = d.subscription) = 1`)
	now, args := s.sqlTime()
	where.add(`((SELECT t.package FROM topics t WHERE t.name = d.topic) = '`+platform.BasicPackage+`' OR
		(SELECT 1 FROM topics t JOIN app_packages a ON a.package = t.package WHERE t.name = d.topic AND a.app = d.app
			AND coalesce(a.valid_from <= `+now+`, true) AND coalesce(a.valid_until > `+now+`, true)) = 1)`, slices.Concat(args, args)...)
}

// sqlTime is the time by which deliveries are due, in a statement.
func (s *Store) sqlTime() (now string, args []any) {
	if s.pool != nil {
		return sqlNow, nil
	}
	return `?`, []any{s.now().UnixMicro()}
}

// Granted lists the grants of the users that hold now.
func (s *Store) Granted(ctx context.Context, e platform.Environment, users []string) (grants []platform.Grant, err error) {
	users = slices.Clone(users)
	slices.Sort(users)
	users = slices.DeleteFunc(slices.Compact(users), func(u string) bool { return !storable(u) })
	if len(users) == 0 {
		return nil, nil
	}
	if s.pool != nil {
		grants, err = s.grantedPostgres(ctx, e, users)
	} else {
		list, _ := json.Marshal(users) // strings cannot fail
		err = s.load(func(r *reader) error {
			return r.each(ctx, func(rows *sql.Rows) error {
				grants = append(grants, platform.Grant{})
				return scanGrant(rows, &grants[len(grants)-1])
			}, grantedSQLite, string(list), string(e), s.now().UnixMicro())
		})
	}
	if err != nil {
		return nil, fmt.Errorf("looking up grants: %w", err)
	}
	return grants, nil
}

func (s *Store) grantedPostgres(ctx context.Context, e platform.Environment, users []string) (grants []platform.Grant, err error) {
	b := planned()
	b.Queue(grantedPostgres, users, string(e)).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var g platform.Grant
			var scopes sql.NullString
			var created, expires sql.NullInt64
			if err := rows.Scan(&g.ID, &g.User, &g.App, &g.AppNumber, &g.Environment, &scopes, &created, &expires); err != nil {
				return err
			}
			list, err := parseList(scopes)
			if err != nil {
				return err
			}
			g.Scopes, g.CreatedAt, g.ExpiresAt = list, fromMicros(created), fromMicros(expires)
			grants = append(grants, g)
		}
		return rows.Err()
	})
	err = s.pipeline(ctx, b)
	return grants, err
}
