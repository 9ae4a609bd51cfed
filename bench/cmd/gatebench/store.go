package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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

// storage is a database as gateways and this program open it.
type storage struct {
	Engine    string // "sqlite" or "postgres"
	Location  string // path or DSN
	MasterKey string // path
}

// sqliteIn is a database in a folder, and a master key for it.
func sqliteIn(dir string) (*storage, error) {
	return newStorage(dir, "sqlite", filepath.Join(dir, "bench.db"))
}

// newStorage makes the master key of a database in a folder.
func newStorage(dir, engine, location string) (*storage, error) {
	s := &storage{Engine: engine, Location: location, MasterKey: filepath.Join(dir, "master.key")}
	if _, err := store.LoadOrCreateKeyFile(s.MasterKey, rand.Reader); err != nil {
		return nil, fmt.Errorf("making a store: %w", err)
	}
	return s, nil
}

// open opens the database. It must be closed.
func (d *storage) open(ctx context.Context) (*store.Store, error) {
	keys, err := store.LoadOrCreateKeyFile(d.MasterKey, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if d.Engine == "postgres" {
		return store.OpenPostgres(ctx, d.Location, keys, store.Options{})
	}
	return store.OpenSQLite(ctx, d.Location, keys, store.Options{})
}

// fill writes the catalog of a file, a plan and n apps into an empty database,
// and returns how long that took. The catalog gets as many interfaces as apis
// says, if it has fewer.
func (d *storage) fill(ctx context.Context, catalogFile string, n, apis int, progress io.Writer) (took time.Duration, err error) {
	_, _ = fmt.Fprintf(progress, "filling the store with %d apps\n", n)
	began := time.Now()
	file, err := catalog.Load(catalogFile)
	if err != nil {
		return 0, fmt.Errorf("filling the store: %w", err)
	}
	file.APIs = withCopies(file.APIs, apis)
	s, err := d.open(ctx)
	if err != nil {
		return 0, fmt.Errorf("filling the store: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	service := platform.NewService(platform.ServiceOptions{
		Store: s, Now: time.Now, Rand: rand.Reader, OnChange: func(platform.Change) {},
	})
	if _, err := service.ApplyCatalog(ctx, actor, *file); err != nil {
		return 0, fmt.Errorf("filling the store: %w", err)
	}
	plan := platform.Plan{Name: planName, App: platform.Limits{
		Rate:  limit.Rate{Requests: enough, Period: time.Minute, Burst: enough},
		Quota: limit.Quota{Day: enough},
	}}
	if _, err := service.PutPlan(ctx, actor, plan); err != nil {
		return 0, fmt.Errorf("filling the store: %w", err)
	}
	var granted []platform.PackageGrant
	for _, p := range file.Packages {
		granted = append(granted, platform.PackageGrant{Package: p.Name})
	}
	if _, err := s.ImportApps(ctx, apps(n, granted, time.Now())); err != nil {
		return 0, fmt.Errorf("filling the store with %d apps: %w", n, err)
	}
	took = time.Since(began)
	_, _ = fmt.Fprintf(progress, "filled in %v\n", took.Round(time.Millisecond))
	return took, nil
}

// withCopies adds copies under other names and paths, up to n.
func withCopies(apis []platform.API, n int) []platform.API {
	own := len(apis)
	for i := own; i < n && own > 0; i++ {
		c := apis[i%own]
		c.Name, c.Path = fmt.Sprintf("copy%d.%s", i/own, c.Name), fmt.Sprintf("/copy%d%s", i/own, c.Path)
		apis = append(apis, c)
	}
	return apis
}
