package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// maxLive is how many credentials of one environment and dialect are accepted
// at a time: the one in use and the one that follows it.
const maxLive = 2

// IssuedSecret is a credential with its secret in clear. It is shown this
// once: nothing else ever returns the secret.
type IssuedSecret struct {
	Number      int         `json:"number"`
	Environment Environment `json:"environment"`
	Dialect     string      `json:"dialect"`
	// Method is the digest algorithm that the dialect is pinned to, if it is.
	Method    string    `json:"method,omitempty"`
	Secret    string    `json:"secret"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// SecretRequest says what a new secret is for: by default op1 in the sandbox.
type SecretRequest struct {
	Environment Environment `json:"environment,omitempty"`
	Dialect     string      `json:"dialect,omitempty"`
}

// AddSecret issues a secret beside the live one, so that the app can change
// over without a gap. A third live one is ErrConflict.
func (s *Service) AddSecret(ctx context.Context, actor, ref string, r SecretRequest) (*IssuedSecret, error) {
	if r.Dialect == "" {
		r.Dialect = signing.Op1
	}
	if err := checkDialect(r.Dialect); err != nil {
		return nil, err
	}
	env, err := ParseEnvironment(string(orSandbox(r.Environment)))
	if err != nil {
		return nil, err
	}
	var issued *IssuedSecret
	_, err = s.updateApp(ctx, actor, ref, "secret.add", func(_ Tx, a *App) error {
		if r.Dialect != signing.Op1 && a.dialect(r.Dialect) == nil {
			return fmt.Errorf("app %s may not sign in %s: allow the dialect first: %w", a.ID, r.Dialect, ErrConflict)
		}
		issued, err = s.issue(a, env, r.Dialect)
		return err
	})
	if err != nil {
		return nil, err
	}
	return issued, nil
}

// AddPublicKey adds an Ed25519 or RSA public key for op1, as PEM.
func (s *Service) AddPublicKey(ctx context.Context, actor, ref string, env Environment, pem string) (*Credential, error) {
	env, err := ParseEnvironment(string(orSandbox(env)))
	if err != nil {
		return nil, err
	}
	pem = strings.TrimSpace(pem) + "\n"
	if _, err := signing.NewPublicKey(1, []byte(pem)); err != nil {
		return nil, &FieldError{Field: "public_key", Problem: err.Error()}
	}
	var added Credential
	_, err = s.updateApp(ctx, actor, ref, "key.add", func(_ Tx, a *App) error {
		err := s.addCredential(a, Credential{Environment: env, Kind: PublicKey, Dialect: signing.Op1, PublicKeyPEM: pem})
		if err == nil {
			added = a.Credentials[len(a.Credentials)-1]
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &added, nil
}

// RevokeCredential ends a credential after the overlap that the app needs to
// change over; 0 ends it now. It never prolongs one that ends earlier.
func (s *Service) RevokeCredential(ctx context.Context, actor, ref string, number int, after time.Duration) (*App, error) {
	if after < 0 || after > maxOverlap {
		return nil, &FieldError{Field: "after", Problem: fmt.Sprintf("%v is out of range", after), Want: fmt.Sprintf("0s to %v", maxOverlap)}
	}
	return s.updateApp(ctx, actor, ref, "credential.revoke", func(_ Tx, a *App) error {
		i := slices.IndexFunc(a.Credentials, func(c Credential) bool { return c.Number == number })
		if i < 0 {
			return fmt.Errorf("credential %d of app %s: %w", number, a.ID, ErrNotFound)
		}
		c, now := &a.Credentials[i], s.clock()
		if !c.Live(now) {
			return fmt.Errorf("credential %d of app %s ended at %s: %w", number, a.ID, c.ExpiresAt.Format(time.RFC3339), ErrConflict)
		}
		c.endBy(now.Add(after))
		return nil
	})
}

// endBy ends the credential at t, unless it ends before.
func (c *Credential) endBy(t time.Time) {
	if c.ExpiresAt.IsZero() || t.Before(c.ExpiresAt) {
		c.ExpiresAt = t
	}
}

// issue adds a fresh secret to the app.
func (s *Service) issue(a *App, env Environment, dialect string) (*IssuedSecret, error) {
	secret, err := newSecret(s.rand, dialect)
	if err != nil {
		return nil, err
	}
	err = s.addCredential(a, Credential{Environment: env, Kind: SharedSecret, Dialect: dialect, Secret: NewSecret([]byte(secret))})
	if err != nil {
		return nil, err
	}
	issued := &IssuedSecret{
		Number:      a.Credentials[len(a.Credentials)-1].Number,
		Environment: env, Dialect: dialect, Secret: secret,
	}
	if g := a.dialect(dialect); g != nil {
		issued.Method = g.Method
	}
	return issued, nil
}

// addCredential numbers c and adds it, unless two of its environment and
// dialect are live.
func (s *Service) addCredential(a *App, c Credential) error {
	now := s.clock()
	var live []string
	last := 0
	for i := range a.Credentials {
		o := &a.Credentials[i]
		last = max(last, o.Number)
		if o.Environment == c.Environment && o.Dialect == c.Dialect && o.Live(now) {
			live = append(live, fmt.Sprint(o.Number))
		}
	}
	if len(live) >= maxLive {
		return fmt.Errorf("app %s has %d live %s credentials for %s: revoke number %s first: %w",
			a.ID, len(live), c.Environment, c.Dialect, strings.Join(live, " or "), ErrConflict)
	}
	c.Number, c.CreatedAt = last+1, now
	a.Credentials = append(a.Credentials, c)
	return nil
}

// dialect is the app's grant of a dialect, or nil.
func (a *App) dialect(name string) *DialectGrant {
	for i := range a.Dialects {
		if a.Dialects[i].Dialect == name {
			return &a.Dialects[i]
		}
	}
	return nil
}
