package oauth

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Starting an app from the app market: whoever opens the market's link is sent to
// the app together with who it is, and the app begins an ordinary authorization
// (OpenID Connect Core section 4, "Initiating Login from a Third Party").
const (
	// MaxStartLifetime bounds how long a link may be good for.
	MaxStartLifetime = 90 * 24 * time.Hour
	// startTokenLifetime is how long an app may take to check that a start is
	// genuine.
	startTokenLifetime = 2 * time.Minute
	// startType is the typ of the JWT by which it does: no other token has it
	// (RFC 8725 section 3.11).
	startType = "start+jwt"
	// maxStartLink bounds a link, in bytes.
	maxStartLink = 1 << 10
)

// startLink is what a link says. It is good at every site of its environment:
// which one it leads to is in its address alone.
type startLink struct {
	AppKey      string               `json:"a"`
	Environment platform.Environment `json:"e"`
	Until       int64                `json:"x"` // Unix seconds
}

// deriveStart makes the key that seals links. It is the same for all issuers, so
// that a link can be made without knowing them.
func deriveStart(secret []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "authorization server\x00start links", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return key, nil
}

// sealStart makes the parameter "link" of a link that starts the app. The secrets
// are those of Options. An app that cannot be started is platform.ErrConflict.
func sealStart(random io.Reader, secrets [][]byte, app *platform.App, env platform.Environment, until time.Time) (string, error) {
	if refused := mayStart(app); refused != nil {
		return "", fmt.Errorf("app %s: %s: %w", app.ID, refused.description, platform.ErrConflict)
	}
	return seal(random, secrets, deriveStart, startLink{app.Key, env, until.Unix()})
}

// StartOptions describe a link to make.
type StartOptions struct {
	// Environment is that of the site; "" is production.
	Environment platform.Environment
	// Issuer is the site's: https://open.example.com.
	Issuer string
	// Lifetime is how long the link is good for: from a minute to
	// MaxStartLifetime.
	Lifetime time.Duration
}

// StartURL makes a link that starts the app, and tells until when it is good. A
// mistake in the options is a *platform.FieldError.
func StartURL(random io.Reader, secrets [][]byte, app *platform.App, o StartOptions, now time.Time) (address string, until time.Time, err error) {
	if o.Environment, err = platform.ParseEnvironment(string(cmp.Or(o.Environment, platform.Production))); err != nil {
		return "", time.Time{}, err
	}
	if o.Issuer == "" {
		return "", time.Time{}, &platform.FieldError{Field: "issuer", Problem: "the configuration names none", Want: "the address of a site with open_oauth: https://open.example.com"}
	}
	if err := CheckIssuer(o.Issuer); err != nil {
		return "", time.Time{}, &platform.FieldError{
			Field: "issuer", Problem: fmt.Sprintf("%q is not the address of a site with open_oauth", o.Issuer),
			Want: "https:// and a host, such as https://open.example.com",
		}
	}
	if o.Lifetime < time.Minute || o.Lifetime > MaxStartLifetime {
		return "", time.Time{}, &platform.FieldError{Field: "valid", Problem: fmt.Sprintf("%v is out of range", o.Lifetime), Want: "1m to 2160h, which is 90 days"}
	}
	until = now.Add(o.Lifetime).UTC().Truncate(time.Second)
	link, err := sealStart(random, secrets, app, o.Environment, until)
	if err != nil {
		return "", time.Time{}, err
	}
	return o.Issuer + "/oauth/start?" + url.Values{"link": {link}}.Encode(), until, nil
}

// mayStart refuses apps that the market cannot start.
func mayStart(app *platform.App) *refusal {
	switch {
	case app.Status != platform.Active:
		return refuse(unauthorizedClient, "the app is suspended")
	case app.Mode != platform.Hosted:
		return refuse(notStartable, "only apps of the mode hosted can be started")
	case app.OAuth.InitiateLoginURI == "":
		return refuse(notStartable, "the app has no initiate_login_uri")
	}
	return nil
}

// CanStart tells whether the market can start the app.
func CanStart(app *platform.App) bool { return mayStart(app) == nil }

// StartRequest is a link that was opened and is good.
type StartRequest struct{ App *platform.App }

// StartLink makes the parameter "link" of a link that starts the app here.
func (s *Server) StartLink(app *platform.App, lifetime time.Duration) (string, error) {
	if s.Secrets == nil {
		return "", errNoSecrets
	}
	return sealStart(s.Rand, s.Secrets(), app, s.Environment, s.Now().Add(lifetime))
}

// OpenStart reads the parameter "link" of a link. The error is a *PageError, of
// which the user gets a page and no redirect.
func (s *Server) OpenStart(ctx context.Context, link string) (*StartRequest, error) {
	var l startLink
	if s.Secrets == nil || len(link) > maxStartLink || !unseal(s.Secrets(), deriveStart, link, &l) {
		return nil, refuse(invalidLink, "the link was not made by this platform, or was changed").page()
	}
	if l.Environment != s.Environment {
		return nil, refuse(invalidLink, "the link is for the other environment").page()
	}
	if s.Now().Unix() >= l.Until {
		return nil, refuse(invalidLink, "the link has expired").page()
	}
	app, err := s.appByKey(ctx, l.AppKey)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, refuse(invalidClient, "the app does not exist any more").page()
	}
	if err != nil {
		return nil, failed(fmt.Errorf("loading the app: %w", err)).page()
	}
	if refused := mayStart(app); refused != nil {
		return nil, refused.page()
	}
	return &StartRequest{app}, nil
}

// Start returns where to send the browser of the user who opened the link. The
// error is a *PageError.
func (s *Server) Start(r *StartRequest, user string) (redirectTo string, err error) {
	token, err := s.signStart(r.App, user)
	if err != nil {
		return "", failed(err).page()
	}
	return addParams(r.App.OAuth.InitiateLoginURI, param{"iss", s.Issuer}, param{"client_id", r.App.Key},
		param{"login_hint", user}, param{"start_token", token}), nil
}

// signStart makes the JWT by which the app sees that we sent the merchant, and
// which one.
func (s *Server) signStart(app *platform.App, user string) (string, error) {
	now := s.Now()
	keys, err := s.signingKeys(now)
	if err != nil {
		return "", err
	}
	id, err := s.newToken("")
	if err != nil {
		return "", err
	}
	value, err := jwt.Signed(keys.start).Claims(jwt.Claims{
		Issuer: s.Issuer, Subject: user, Audience: jwt.Audience{app.Key}, ID: id,
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(startTokenLifetime)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing a start: %w", err)
	}
	return value, nil
}
