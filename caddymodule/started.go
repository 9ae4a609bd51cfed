package caddymodule

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// actorStart is who the audit log names for changes that a start makes.
const actorStart = "caddy"

// startedHandler does what has to wait until the configuration runs.
type startedHandler struct{ app *App }

// Handle puts new settings in force on an engine that was open already, applies
// the catalogs and makes the first merchant and the first app. What fails is
// logged: the platform runs on with what it has.
func (h startedHandler) Handle(ctx context.Context, _ caddy.Event) error {
	a := h.app
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := a.engine.configure(ctx, a.engineOptions()); err != nil {
		a.logger.Error("settings not in force", zap.Error(err))
	}
	for _, file := range a.catalogs {
		diff, err := a.engine.service.ApplyCatalog(ctx, actorStart, *file)
		if a.engine.keepsCatalog(ctx, file, err) {
			a.logger.Warn("catalog not looked at anew; it is in force on this node", zap.String("catalog", file.Source), zap.Error(err))
			continue
		}
		if err != nil {
			a.logger.Error("catalog not applied", zap.String("catalog", file.Source), zap.Error(err))
			continue
		}
		if len(diff.Changes) > 0 {
			a.logger.Info("catalog applied", zap.String("catalog", file.Source), zap.Int("changes", len(diff.Changes)))
		}
	}
	if a.SandboxMerchant != "" {
		if err := a.makeSandboxMerchant(ctx); err != nil {
			a.logger.Error("sandbox merchant not made", zap.Error(err))
		}
	}
	if a.SandboxApp != "" {
		if err := a.makeSandboxApp(ctx); err != nil {
			a.logger.Error("sandbox app not made", zap.Error(err))
		}
	}
	return nil
}

// keepsCatalog tells that a catalog failed for want of the store alone, and that it is
// in force on this node as it is: a configuration goes on with it.
func (e *engine) keepsCatalog(ctx context.Context, f *platform.CatalogFile, err error) bool {
	if !errors.Is(err, platform.ErrUnavailable) {
		return false
	}
	c, err := e.gate.Load().Catalog(ctx)
	return err == nil && c.Has(f)
}

// makeSandboxMerchant makes a merchant to try with if there is none at all, and
// writes what it logs in with to a file of the owner's.
func (a *App) makeSandboxMerchant(ctx context.Context) error {
	service := a.engine.service
	found, err := service.Users(ctx, platform.UserFilter{}, platform.Page{Limit: 1})
	if err != nil || len(found) > 0 {
		return err
	}
	const login = "demo"
	password := rand.Text()
	// First the file: an account whose password nobody has is of no use.
	if err := writeCredentials(a.SandboxMerchant, map[string]any{"login": login, "password": password}); err != nil {
		return err
	}
	u, err := service.CreateUser(ctx, actorStart, login, "Demo shop", password)
	if errors.Is(err, platform.ErrConflict) {
		// Another node that started together with this one was quicker.
		return os.Remove(a.SandboxMerchant)
	}
	if err != nil {
		return errors.Join(err, os.Remove(a.SandboxMerchant))
	}
	a.logger.Info("sandbox merchant made", zap.String("user", u.ID), zap.String("credentials", a.SandboxMerchant))
	return nil
}

// makeSandboxApp makes an app for the sandbox if there is no app at all, with
// every package, and writes its credentials to a file of the owner's.
func (a *App) makeSandboxApp(ctx context.Context) error {
	service := a.engine.service
	n, err := service.CountApps(ctx)
	if err != nil || n > 0 {
		return err
	}
	c, err := service.Catalog(ctx)
	if err != nil {
		return err
	}
	request := platform.NewApp{Name: "sandbox demo", Environment: platform.Sandbox}
	for _, p := range c.Packages {
		request.Packages = append(request.Packages, p.Name)
	}
	app, secret, err := service.CreateApp(ctx, actorStart, request)
	if err != nil {
		return err
	}
	credentials := map[string]any{"id": app.ID, "app_key": app.Key, "secret": secret.Secret, "environment": secret.Environment}
	if a.SandboxRedirectURI != "" {
		credentials["redirect_uri"] = a.SandboxRedirectURI
		_, err = service.SetOAuth(ctx, actorStart, app.ID, platform.OAuthSettings{RedirectURIs: []string{a.SandboxRedirectURI}})
	}
	if err == nil {
		err = writeCredentials(a.SandboxApp, credentials)
	}
	if err != nil {
		// An app whose secret nobody has is of no use.
		return errors.Join(err, service.DeleteApp(ctx, actorStart, app.ID))
	}
	a.logger.Info("sandbox app made; try it with: caddy open-platform quickstart",
		zap.String("app_key", app.Key), zap.String("credentials", a.SandboxApp))
	return nil
}

// writeCredentials writes what somebody proves with who they are.
func writeCredentials(path string, credentials map[string]any) error {
	data, err := json.MarshalIndent(credentials, "", "  ")
	if err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	if err := f.Chmod(0o600); err != nil {
		_ = f.Close()
		return fmt.Errorf("writing credentials: %w", err)
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		_ = f.Close()
		return fmt.Errorf("writing credentials: %w", err)
	}
	return f.Close()
}
