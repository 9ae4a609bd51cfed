package caddymodule

import (
	"context"
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
// the catalogs and makes the first app. What fails is logged: the platform runs
// on with what it has.
func (h startedHandler) Handle(ctx context.Context, _ caddy.Event) error {
	a := h.app
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := a.engine.configure(ctx, a.engineOptions()); err != nil {
		a.logger.Error("settings not in force", zap.Error(err))
	}
	for _, file := range a.catalogs {
		diff, err := a.engine.service.ApplyCatalog(ctx, actorStart, *file)
		if err != nil {
			a.logger.Error("catalog not applied", zap.String("catalog", file.Source), zap.Error(err))
			continue
		}
		if len(diff.Changes) > 0 {
			a.logger.Info("catalog applied", zap.String("catalog", file.Source), zap.Int("changes", len(diff.Changes)))
		}
	}
	if a.SandboxApp == "" {
		return nil
	}
	if err := a.makeSandboxApp(ctx); err != nil {
		a.logger.Error("sandbox app not made", zap.Error(err))
	}
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
	if err := writeCredentials(a.SandboxApp, app, secret); err != nil {
		// An app whose secret nobody has is of no use.
		return errors.Join(err, service.DeleteApp(ctx, actorStart, app.ID))
	}
	a.logger.Info("sandbox app made; try it with: caddy open-platform quickstart",
		zap.String("app_key", app.Key), zap.String("credentials", a.SandboxApp))
	return nil
}

// writeCredentials writes what the command line signs with.
func writeCredentials(path string, app *platform.App, secret *platform.IssuedSecret) error {
	data, err := json.MarshalIndent(map[string]any{
		"id": app.ID, "app_key": app.Key, "secret": secret.Secret, "environment": secret.Environment,
	}, "", "  ")
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
