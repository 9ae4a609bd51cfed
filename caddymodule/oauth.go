package caddymodule

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Authorization is what an authorization server stands on. It serves as long as
// the configuration does that it came from.
type Authorization struct {
	// Service is through which grants are listed and revoked, and passwords
	// checked.
	Service *platform.Service
	Store   oauth.Store
	// Tokens are what the gate knows of access tokens.
	Tokens *oauth.Verifier
	// Apps and Catalog are what the gate has in force.
	Apps    oauth.Apps
	Catalog func(context.Context) (*platform.Catalog, error)
	// Ledger remembers what may be used once, on all nodes if they share it.
	Ledger limit.Ledger
	// Guesses counts failed attempts at the token endpoints, over reloads.
	Guesses *oauth.Guard
	// Location is where days begin for people.
	Location *time.Location

	engine *engine
}

// Authorization opens the store if a request comes before this app was started.
func (a *App) Authorization(ctx context.Context) (*Authorization, error) {
	g, err := a.Gate(ctx)
	if err != nil {
		return nil, err
	}
	return &Authorization{
		Service: a.engine.service, Store: a.engine.store, Apps: g, Tokens: a.engine.tokens, Catalog: g.Catalog,
		Ledger: a.engine.once, Guesses: a.engine.guesses, Location: a.location, engine: a.engine,
	}, nil
}

// ServesIssuer tells the app which issuer an authorization server has. Handlers
// call it while they are provisioned.
func (a *App) ServesIssuer(env platform.Environment, issuer string) {
	if a.issuers == nil {
		a.issuers = map[platform.Environment][]string{}
	}
	if !slices.Contains(a.issuers[env], issuer) {
		a.issuers[env] = append(a.issuers[env], issuer)
	}
}

// StartLink makes a link that starts the app, which is named by its ID or appKey,
// at the site of the issuer. Without one it is that of the environment's only
// authorization server whose issuer the configuration names.
func (a *App) StartLink(ctx context.Context, ref string, o oauth.StartOptions) (*adminapi.StartLink, error) {
	app, err := a.Service().App(ctx, ref)
	if err != nil {
		return nil, err
	}
	o.Environment = cmp.Or(o.Environment, platform.Production)
	if issuers := a.issuers[o.Environment]; o.Issuer == "" && len(issuers) == 1 {
		o.Issuer = issuers[0]
	}
	authorization := &Authorization{engine: a.engine}
	address, until, err := oauth.StartURL(rand.Reader, authorization.Secrets(), app, o, time.Now())
	if err != nil {
		return nil, err
	}
	return &adminapi.StartLink{URL: address, AppKey: app.Key, Environment: o.Environment, ExpiresAt: until}, nil
}

// Secrets are what keys of the authorization server are made of, one from each
// master key, the current one first. The master keys themselves stay here.
func (a *Authorization) Secrets() [][]byte {
	keys := a.engine.keyring.Load().Keys()
	secrets := make([][]byte, 0, len(keys))
	for _, key := range keys {
		secret, err := hkdf.Key(sha256.New, key, nil, "open platform: authorization server", sha256.Size)
		if err != nil {
			return nil // a length that RFC 5869 does not have
		}
		secrets = append(secrets, secret)
	}
	return secrets
}

// Seal makes a text of data that only this platform can read, on every node, and
// only for the same purpose. It is encrypted and authenticated with the master
// key.
func (a *Authorization) Seal(purpose string, data []byte) (string, error) {
	id, sealed, err := a.engine.keyring.Load().Seal(rand.Reader, data, []byte(purpose))
	if err != nil {
		return "", err
	}
	return id + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Unseal reads what Seal made. It fails for anything else, and for what was
// sealed with a master key that is no more.
func (a *Authorization) Unseal(purpose, text string) ([]byte, error) {
	id, encoded, found := strings.Cut(text, ".")
	if !found {
		return nil, errors.New("opening a sealed text: it is none")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("opening a sealed text: %w", err)
	}
	return a.engine.keyring.Load().Open(id, sealed, []byte(purpose))
}
