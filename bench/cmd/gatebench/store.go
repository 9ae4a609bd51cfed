package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

const (
	actor = "gatebench"
	// enough is a limit that is checked and charged and never reached.
	enough = 100_000_000
)

// fillStore makes the database of a gateway: the catalog of a file, a plan and
// n apps. It returns the paths of the database and of its master key.
func fillStore(ctx context.Context, dir, catalogFile string, n int) (database, masterKey string, err error) {
	database, masterKey = filepath.Join(dir, "bench.db"), filepath.Join(dir, "master.key")
	keys, err := store.LoadOrCreateKeyFile(masterKey, rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("filling the store: %w", err)
	}
	file, err := catalog.Load(catalogFile)
	if err != nil {
		return "", "", fmt.Errorf("filling the store: %w", err)
	}
	s, err := store.OpenSQLite(ctx, database, keys, store.Options{})
	if err != nil {
		return "", "", fmt.Errorf("filling the store: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	service := platform.NewService(platform.ServiceOptions{
		Store: s, Now: time.Now, Rand: rand.Reader, OnChange: func(platform.Change) {},
	})
	if _, err := service.ApplyCatalog(ctx, actor, *file); err != nil {
		return "", "", fmt.Errorf("filling the store: %w", err)
	}
	plan := platform.Plan{Name: planName, App: platform.Limits{
		Rate:  limit.Rate{Requests: enough, Period: time.Minute, Burst: enough},
		Quota: limit.Quota{Day: enough},
	}}
	if _, err := service.PutPlan(ctx, actor, plan); err != nil {
		return "", "", fmt.Errorf("filling the store: %w", err)
	}
	var granted []platform.PackageGrant
	for _, p := range file.Packages {
		granted = append(granted, platform.PackageGrant{Package: p.Name})
	}
	if _, err := s.ImportApps(ctx, apps(n, granted, time.Now())); err != nil {
		return "", "", fmt.Errorf("filling the store with %d apps: %w", n, err)
	}
	return database, masterKey, nil
}
