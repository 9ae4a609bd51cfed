package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	userByID  = `id = ?`
	userQuery = `SELECT id, login, name, status, issuer, subject, password, created_at, updated_at FROM users`
)

func scanUser(rows *sql.Rows, u *platform.User) error {
	var login, issuer, subject, password sql.NullString
	var created, updated sql.NullInt64
	err := rows.Scan(&u.ID, &login, &u.Name, &u.Status, &issuer, &subject, &password, &created, &updated)
	u.Login, u.Issuer, u.Subject = login.String, issuer.String, subject.String
	if password.Valid {
		u.Password = platform.NewSecret([]byte(password.String))
	}
	u.CreatedAt, u.UpdatedAt = fromMicros(created), fromMicros(updated)
	return err
}

// user loads the one user that the condition finds.
func (r *reader) user(ctx context.Context, condition string, args ...any) (*platform.User, error) {
	for _, arg := range args {
		if !storable(arg.(string)) {
			return nil, fmt.Errorf("user: %w", platform.ErrNotFound)
		}
	}
	var u *platform.User
	err := r.each(ctx, func(rows *sql.Rows) error {
		u = &platform.User{}
		return scanUser(rows, u)
	}, userQuery+` WHERE `+condition, args...)
	if err == nil && u == nil {
		err = fmt.Errorf("user: %w", platform.ErrNotFound)
	}
	return u, err
}

// User loads a user by its ID.
func (r *reader) User(ctx context.Context, id string) (*platform.User, error) {
	return r.user(ctx, userByID, id)
}

// UserByLogin loads a user by what it logs in with.
func (r *reader) UserByLogin(ctx context.Context, login string) (*platform.User, error) {
	return r.user(ctx, `login = ?`, login)
}

// Users lists users by ID.
func (r *reader) Users(ctx context.Context, f platform.UserFilter, p platform.Page) ([]platform.User, error) {
	users := []platform.User{}
	if !storable(p.After + f.Text) {
		return users, nil
	}
	where, args := []string{"id > ?"}, []any{p.After}
	if f.Status != "" {
		where, args = append(where, "status = ?"), append(args, f.Status)
	}
	if f.Text != "" {
		part := containing(f.Text)
		where = append(where, `(id = ? OR lower(name) LIKE ? ESCAPE '\' OR login LIKE ? ESCAPE '\')`)
		args = append(args, f.Text, part, part)
	}
	err := r.each(ctx, func(rows *sql.Rows) error {
		users = append(users, platform.User{})
		return scanUser(rows, &users[len(users)-1])
	}, userQuery+` WHERE `+strings.Join(where, " AND ")+` ORDER BY id LIMIT ?`, append(args, rowsOf(p))...)
	return users, err
}

// PutUser writes a user.
func (t *tx) PutUser(ctx context.Context, u *platform.User) error {
	_, err := t.exec(ctx, `INSERT INTO users (id, login, name, status, issuer, subject, password, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET login = excluded.login, name = excluded.name, status = excluded.status, issuer = excluded.issuer,
			subject = excluded.subject, password = excluded.password, updated_at = excluded.updated_at`,
		u.ID, orNull(u.Login), u.Name, u.Status, orNull(u.Issuer), orNull(u.Subject), orNull(string(u.Password.Reveal())),
		micros(u.CreatedAt), micros(u.UpdatedAt))
	return named(err, "user %q", u.Login)
}

// User loads a user by its ID.
func (s *Store) User(ctx context.Context, id string) (u *platform.User, err error) {
	err = s.load(func(r *reader) error { u, err = r.User(ctx, id); return err })
	return u, err
}

// UserByLogin loads a user by what it logs in with.
func (s *Store) UserByLogin(ctx context.Context, login string) (u *platform.User, err error) {
	err = s.load(func(r *reader) error { u, err = r.UserByLogin(ctx, login); return err })
	return u, err
}

// Users lists users by ID.
func (s *Store) Users(ctx context.Context, f platform.UserFilter, p platform.Page) (users []platform.User, err error) {
	err = s.load(func(r *reader) error { users, err = r.Users(ctx, f, p); return err })
	return users, err
}

// UserByIdentity finds the user that an outside passport names, or makes it. A
// name that the passport has changed is changed here.
func (s *Store) UserByIdentity(ctx context.Context, issuer, subject, name string, now time.Time) (*platform.User, error) {
	if issuer == "" || subject == "" || !storable(issuer+subject+name) {
		return nil, fmt.Errorf("user of an outside passport: issuer or subject is empty or no text: %w", platform.ErrConflict)
	}
	for try := 0; ; try++ {
		var u *platform.User
		err := s.load(func(r *reader) (err error) {
			u, err = r.user(ctx, `issuer = ? AND subject = ?`, issuer, subject)
			return err
		})
		switch {
		case err == nil && (name == "" || name == u.Name):
			return u, nil
		case err == nil:
			u.Name, u.UpdatedAt = name, now.UTC().Truncate(time.Microsecond)
			return u, s.issue(ctx, func(ctx context.Context, c *conn) error {
				_, err := c.exec(ctx, `UPDATE users SET name = ?, updated_at = ? WHERE id = ?`, u.Name, micros(u.UpdatedAt), u.ID)
				return err
			})
		case !errors.Is(err, platform.ErrNotFound) || try == 2:
			return nil, err
		}
		id, err := platform.NewUserID(s.rand)
		if err != nil {
			return nil, err
		}
		// Where another request was quicker its user is found the next time.
		if err := s.issue(ctx, func(ctx context.Context, c *conn) error {
			_, err := c.exec(ctx, `INSERT INTO users (id, name, status, issuer, subject, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (issuer, subject) WHERE issuer IS NOT NULL DO NOTHING`,
				id, cmp.Or(name, subject), platform.UserActive, issuer, subject, micros(now), micros(now))
			return err
		}); err != nil {
			return nil, err
		}
	}
}
