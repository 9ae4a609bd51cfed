package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

// tokenServer is the authorization server in this process, without Caddy, TLS and
// network: what the bare loop is compared with.
type tokenServer struct {
	store   *store.Store
	handler http.Handler
	proofs  []string // of each app, as a header
	loops   int
}

// memoryApps are apps as the gate has them at hand.
type memoryApps map[string]*platform.App

// AppByKey finds an app.
func (a memoryApps) AppByKey(_ context.Context, key string) (*platform.App, error) {
	if app := a[key]; app != nil {
		return app, nil
	}
	return nil, platform.ErrNotFound
}

// newTokenServer fills an empty database of the engine with apps, and prepares to
// ask for tokens in so many loops at once. It must be closed.
func newTokenServer(ctx context.Context, dir, engine string, servers *servers, p oauthPart, s settings, progress io.Writer) (t *tokenServer, err error) {
	db, err := emptyStorage(ctx, filepath.Join(dir, engine+"-loop"), engine, servers)
	if err != nil {
		return nil, err
	}
	if _, err := db.fill(ctx, s.catalog, p.apps, 0, progress); err != nil {
		return nil, err
	}
	t = &tokenServer{loops: s.connections}
	if t.store, err = db.open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.store.Close())
		}
	}()
	apps := memoryApps{}
	for i := 1; i <= p.apps; i++ {
		if apps[appKey(i)], err = t.store.AppByKey(ctx, appKey(i)); err != nil {
			return nil, fmt.Errorf("loading apps: %w", err)
		}
		t.proofs = append(t.proofs, basic(appKey(i), string(secret(i))))
	}
	server, err := oauth.New(oauth.Options{
		Store: t.store, Apps: apps, Issuer: "https://open.example.com", Secure: func(*http.Request) bool { return true },
	})
	if err != nil {
		return nil, err
	}
	t.handler = server.TokenHandler()
	return t, nil
}

// Close closes the database.
func (t *tokenServer) Close() error { return t.store.Close() }

// ask has each loop ask for one token after the other for d, by client
// credentials.
func (t *tokenServer) ask(ctx context.Context, d time.Duration) (outcome, error) {
	body := url.Values{"grant_type": {"client_credentials"}, "scope": {scopes}}.Encode()
	turns := make([]int, t.loops)
	return together(ctx, t.loops, d, func(ctx context.Context, worker int) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://open.example.com/oauth/token", strings.NewReader(body))
		if err != nil {
			return err
		}
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", t.proofs[(worker+turns[worker]*t.loops)%len(t.proofs)])
		turns[worker]++
		w := httptest.NewRecorder()
		t.handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return fmt.Errorf("asking for a token: %d: %.200s", w.Code, w.Body)
		}
		return nil
	})
}
