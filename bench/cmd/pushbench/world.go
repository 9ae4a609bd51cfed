package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// The engines.
const (
	sqliteEngine   = "sqlite"
	postgresEngine = "postgres"
)

// rig is what all parts share.
type rig struct {
	settings
	out, progress io.Writer
	dir           string
	sink          *sink
	database      *database // nil without PostgreSQL
	stores        int
}

// concurrency is how many requests are under way at once, to all endpoints
// together and to one alone; the bare loop has as many.
const concurrency = 256

// world is a store with apps, each of which has one subscription of a topic of
// its own: a message makes one delivery.
type world struct {
	store   *store.Store
	engine  string
	catalog platform.Catalog
	targets []string
	// database is the server behind the store; nil on SQLite.
	database *database
	dsn      string
	roots    *tls.Config
	app      uint64 // the first app's number
	made     atomic.Int64
}

// newWorld opens an empty store and fills in an app for each URL.
func (r *rig) newWorld(ctx context.Context, engine string, targets []string) (*world, error) {
	w := &world{engine: engine, targets: targets, roots: &tls.Config{RootCAs: r.sink.roots, MinVersion: tls.VersionTLS12}}
	keys, err := store.NewKeyring(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		return nil, err
	}
	if engine == sqliteEngine {
		r.stores++
		w.dsn = filepath.Join(r.dir, fmt.Sprintf("store%d.db", r.stores))
		w.store, err = store.OpenSQLite(ctx, w.dsn, keys, store.Options{})
	} else {
		w.database = r.database
		if w.dsn, err = r.database.DSN(ctx); err != nil {
			return nil, err
		}
		w.store, err = store.OpenPostgres(ctx, w.dsn, keys, store.Options{})
	}
	if err != nil {
		return nil, err
	}
	if err := w.fill(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("filling the store: %w", err), w.store.Close())
	}
	return w, nil
}

// remove removes a store that is closed. PostgreSQL's goes with its server.
func (w *world) remove() error {
	if w.database != nil {
		return nil
	}
	var err error
	for _, file := range []string{w.dsn, w.dsn + "-wal", w.dsn + "-shm"} {
		if e := os.Remove(file); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("removing a store: %w", e))
		}
	}
	return err
}

// fill adds the apps, their keys, topics and subscriptions.
func (w *world) fill(ctx context.Context) error {
	now := time.Now()
	return w.store.Update(ctx, func(tx platform.Tx) error {
		for i, target := range w.targets {
			app := &platform.App{
				ID: fmt.Sprintf("app_%020d", i), Key: fmt.Sprintf("ak_%020d", i), Name: "bench", Kind: platform.ISV, Mode: platform.Web,
				Status: platform.Active, CreatedAt: now, UpdatedAt: now,
			}
			if err := tx.PutApp(ctx, app); err != nil {
				return err
			}
			if i == 0 {
				w.app = app.Number
			}
			w.catalog.Topics = append(w.catalog.Topics, platform.Topic{Name: topicOf(i), Package: platform.BasicPackage, Status: platform.Online})
			secret := platform.NewSecret(bytes.Repeat([]byte{byte(i + 1)}, 32))
			err := errors.Join(
				tx.PutPushKey(ctx, app, &platform.PushKey{Number: 1, Environment: platform.Production, Kind: platform.EncryptionKey, Secret: secret, CreatedAt: now}),
				tx.PutPushKey(ctx, app, &platform.PushKey{Number: 2, Environment: platform.Production, Kind: platform.SigningKey, Secret: secret, CreatedAt: now}),
				tx.PutSubscription(ctx, &platform.Subscription{
					ID: fmt.Sprintf("sub_%020d", i), App: app.ID, AppNumber: app.Number, Environment: platform.Production, URL: target,
					Topics: []string{topicOf(i)}, Concurrency: concurrency, Format: platform.EncryptedFormat, Status: platform.SubscriptionActive,
					VerifiedAt: now, CreatedAt: now, UpdatedAt: now,
				}),
			)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func topicOf(n int) string { return fmt.Sprintf("bench.item%d.changed", n) }

// data is 1 KiB of JSON.
var data = func() []byte {
	head, tail := `{"order_id":"20260101000001","note":"`, `"}`
	return []byte(head + strings.Repeat("x", 1024-len(head)-len(tail)) + tail)
}()

// messages makes n messages, to the endpoints in turn.
func (w *world) messages(n int) []pusher.Message {
	out := make([]pusher.Message, n)
	for i := range out {
		turn := int(w.made.Add(1)) % len(w.targets)
		out[i] = pusher.Message{Environment: platform.Production, Topic: topicOf(turn), Time: time.Now(), Data: data}
	}
	return out
}

// newPusher makes a node on the store; with observe nil it publishes alone.
func (w *world) newPusher(observe func(pusher.Observation), report func(string, error)) (*pusher.Pusher, error) {
	return pusher.New(pusher.Options{
		Store: w.store, Catalog: func(context.Context) (*platform.Catalog, error) { return &w.catalog, nil },
		Source: "https://open.example.com", Node: "bench", Observe: observe, Report: report,
		Settings: pusher.Settings{
			Off: observe == nil, Workers: concurrency, TLS: w.roots, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Timeout: 30 * time.Second,
		},
	})
}

// use is what was used so far.
func (w *world) use() (use, error) {
	u := use{wall: time.Since(began)}
	var err error
	if u.own, err = cpuTime(); err != nil {
		return use{}, err
	}
	if w.database != nil {
		u.database, err = w.database.cpuTime()
	}
	return u, err
}

// began is when the clock of use started.
var began = time.Now()
