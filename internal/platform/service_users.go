package platform

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CreateUser makes a merchant that logs in here. Logins do not tell upper from
// lower case. A taken one is ErrConflict.
func (s *Service) CreateUser(ctx context.Context, actor, login, name, password string) (*User, error) {
	login, err := parseLogin(login)
	if err != nil {
		return nil, err
	}
	if err := checkText("name", name, 1, maxName); err != nil {
		return nil, err
	}
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	u := &User{Login: login, Name: name, Status: UserActive, CreatedAt: s.clock()}
	u.UpdatedAt = u.CreatedAt
	if u.ID, err = NewUserID(s.rand); err != nil {
		return nil, err
	}
	// Hashed before the transaction, which all other changes wait for.
	if u.Password, err = s.hasher.hash(ctx, s.rand, password); err != nil {
		return nil, err
	}
	err = s.update(ctx, actor, func(tx Tx) (event, error) {
		return event{"user.create", u.ID, nil, u, Change{ChangeUser, u.ID}}, tx.PutUser(ctx, u)
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// CheckPassword finds the merchant that logs in from the address. It takes the
// same time for a login that nobody has. Errors are ErrLogin, also for a user that
// is disabled, and [LockedError].
func (s *Service) CheckPassword(ctx context.Context, from netip.Addr, login, password string) (*User, error) {
	login, err := parseLogin(login)
	if err != nil || len(password) > maxPassword {
		return nil, ErrLogin // nobody can have them, as anybody may know
	}
	of := newGuess(login, from)
	charged, err := s.lockout.charge(of, s.now())
	if err != nil {
		return nil, err
	}
	u, right, err := s.look(ctx, login, password)
	if err != nil {
		s.lockout.giveBack(charged, s.now())
		return nil, err
	}
	if !right || u.Status != UserActive {
		return nil, ErrLogin
	}
	s.lockout.forgive(of, s.now())
	return u, nil
}

// look tells whether the password is that of the login.
func (s *Service) look(ctx context.Context, login, password string) (u *User, right bool, err error) {
	u, err = s.store.UserByLogin(ctx, login)
	if errors.Is(err, ErrNotFound) {
		u, err = &User{}, nil
	}
	if err != nil {
		return nil, false, err
	}
	if right, err = s.hasher.matches(ctx, u.Password, password); err != nil {
		return nil, false, fmt.Errorf("user %s: %w", u.ID, err)
	}
	return u, right, nil
}

// SetPassword gives a user a new password, and ends a lock-out on this node.
func (s *Service) SetPassword(ctx context.Context, actor, ref, password string) (*User, error) {
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	hash, err := s.hasher.hash(ctx, s.rand, password)
	if err != nil {
		return nil, err
	}
	u, err := s.updateUser(ctx, actor, ref, "user.password", func(u *User) error {
		if u.Login == "" {
			return fmt.Errorf("user %s logs in with an outside passport and has no password here: %w", u.ID, ErrConflict)
		}
		u.Password = hash
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.lockout.forget(u.Login)
	return u, nil
}

// DisableUser keeps a merchant from logging in, and makes its grants and tokens
// be refused until it is enabled again.
func (s *Service) DisableUser(ctx context.Context, actor, ref string) (*User, error) {
	return s.updateUser(ctx, actor, ref, "user.disable", func(u *User) error { u.Status = UserDisabled; return nil })
}

// EnableUser is the opposite of DisableUser: grants and tokens hold again, as
// far as they have not ended meanwhile.
func (s *Service) EnableUser(ctx context.Context, actor, ref string) (*User, error) {
	return s.updateUser(ctx, actor, ref, "user.enable", func(u *User) error { u.Status = UserActive; return nil })
}

// updateUser loads the user that ref names, lets fn edit it, and writes it.
func (s *Service) updateUser(ctx context.Context, actor, ref, action string, fn func(*User) error) (*User, error) {
	var u *User
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		var err error
		if u, err = findUser(ctx, tx, ref); err != nil {
			return event{}, err
		}
		before, err := auditJSON(u)
		if err != nil {
			return event{}, err
		}
		if err := fn(u); err != nil {
			return event{}, err
		}
		u.UpdatedAt = s.clock()
		return event{action, u.ID, before, u, Change{ChangeUser, u.ID}}, tx.PutUser(ctx, u)
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// User loads a merchant by its ID or its login.
func (s *Service) User(ctx context.Context, ref string) (*User, error) {
	return findUser(ctx, s.store, ref)
}

// Users lists merchants by ID.
func (s *Service) Users(ctx context.Context, f UserFilter, p Page) ([]User, error) {
	limit, err := checkLimit(p.Limit)
	if err != nil {
		return nil, err
	}
	p.Limit = limit
	if f.Status != "" && !slices.Contains([]UserStatus{UserActive, UserDisabled}, f.Status) {
		return nil, &FieldError{Field: "status", Problem: fmt.Sprintf("%q is no status of a user", f.Status), Want: "active or disabled"}
	}
	if err := checkText("text", f.Text, 0, maxName); err != nil {
		return nil, err
	}
	return s.store.Users(ctx, f, p)
}

// findUser loads a user by its ID or its login, which cannot look alike.
func findUser(ctx context.Context, r Reader, ref string) (*User, error) {
	if strings.HasPrefix(ref, userPrefix) {
		u, err := r.User(ctx, ref)
		return u, userNamed(err, ref)
	}
	u, err := r.UserByLogin(ctx, strings.ToLower(ref))
	return u, userNamed(err, ref)
}

func userNamed(err error, ref string) error {
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("user %q: %w", ref, ErrNotFound)
	}
	return err
}

// parseLogin checks a login and makes it lower case.
func parseLogin(s string) (string, error) {
	login := strings.ToLower(s)
	strange := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+@", r)
	}
	if !utf8.ValidString(s) || login == "" || utf8.RuneCountInString(login) > maxName || strings.ContainsFunc(login, strange) ||
		strings.HasPrefix(login, userPrefix) {
		return "", &FieldError{Field: "login", Problem: "is no login", Want: fmt.Sprintf("1 to %d letters, digits and . _ - + @, not beginning with %s", maxName, userPrefix)}
	}
	return login, nil
}
