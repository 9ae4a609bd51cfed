package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/store"
)

// postgresSchemes begin the address of a PostgreSQL database.
var postgresSchemes = []string{"postgres://", "postgresql://"}

// storeFlags name the two stores of a copy.
type storeFlags struct {
	from, to, fromKeys, toKeys string
}

func (c *cli) storeCommand() *cobra.Command {
	var f storeFlags
	var yes bool
	cp := c.verb("copy", "Copies a whole platform to an empty store of another kind", `  caddy open-platform store copy --from ./data/openplatform.db --to '{env.DATABASE_URL}' --to-keys /run/secrets/master.key
  caddy open-platform store copy --from '{env.DATABASE_URL}' --from-keys /run/secrets/master.key --to ./copy.db --yes`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if f.from == "" || f.to == "" {
				return usagef("--from and --to are needed: a SQLite file, or postgres://… best given as '{env.DATABASE_URL}'")
			}
			ok, err := c.confirm(cmd, yes, "Has every server that uses the store been stopped? What changes from now on is not copied.")
			if err != nil || !ok {
				return orDeclined(err)
			}
			return c.copyStore(ctx, cmd, &f)
		})
	cp.Long = `Copies apps with their secrets, catalog, plans, limits, quota counts and the
audit log, then compares both stores row by row. It works on the stores
themselves: stop the servers first. The target must be empty; secrets are
encrypted anew with its keys. A copy that was broken off can be run again.`
	flags := cp.Flags()
	flags.StringVar(&f.from, "from", "", "store to copy from: a SQLite file or postgres://…")
	flags.StringVar(&f.to, "to", "", "empty store to copy to")
	flags.StringVar(&f.fromKeys, "from-keys", "", "file with the master keys of the source (default: master.key beside its file)")
	flags.StringVar(&f.toKeys, "to-keys", "", "file with the master keys of the target (default: those of the source)")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	return c.group("store", "Works on the stores themselves, without a server", cp)
}

// copied is what a copy ends with.
type copied struct {
	Rows    int     `json:"rows"`
	Seconds float64 `json:"seconds"`
}

func (c *cli) copyStore(ctx context.Context, cmd *cobra.Command, f *storeFlags) (err error) {
	started := c.now()
	fromKeys, toKeys, err := f.keys()
	if err != nil {
		return err
	}
	from, err := openExisting(ctx, f.from, fromKeys)
	if err != nil {
		return fmt.Errorf("opening --from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := openStore(ctx, f.to, toKeys)
	if err != nil {
		return fmt.Errorf("opening --to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()

	var rows int
	err = store.Copy(ctx, from, to, func(done, total int) {
		rows = total / 2 // each counts when it is written and when it is compared
		c.progress(cmd, done, total)
	})
	c.endProgress(cmd)
	if err != nil {
		return err
	}
	took := c.now().Sub(started)
	return c.print(cmd, copied{Rows: rows, Seconds: took.Seconds()}, func(w io.Writer) {
		fmt.Fprintf(w, "copied and compared: %d rows in %s\n", rows, took.Round(time.Millisecond))
	})
}

// keys reads the master keys of both stores.
func (f *storeFlags) keys() (from, to *store.Keyring, err error) {
	path := f.fromKeys
	if path == "" {
		if isPostgres(f.from) {
			return nil, nil, usagef("--from-keys is needed: a file with the master keys of the source")
		}
		path = filepath.Join(filepath.Dir(f.from), "master.key")
	}
	if from, err = readKeys(path); err != nil {
		return nil, nil, err
	}
	if f.toKeys == "" {
		return from, from, nil
	}
	to, err = readKeys(f.toKeys)
	return from, to, err
}

// readKeys reads a file of master keys and never makes one.
func readKeys(path string) (*store.Keyring, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading master keys: %w", err)
	}
	ring, err := store.ParseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("reading master keys from %s: %w", path, err)
	}
	return ring, nil
}

// openExisting opens a store that must be there.
func openExisting(ctx context.Context, where string, keys *store.Keyring) (*store.Store, error) {
	if !isPostgres(where) {
		if _, err := os.Stat(where); err != nil {
			return nil, err
		}
	}
	return openStore(ctx, where, keys)
}

func openStore(ctx context.Context, where string, keys *store.Keyring) (*store.Store, error) {
	if isPostgres(where) {
		return store.OpenPostgres(ctx, resolve(where), keys, store.Options{})
	}
	return store.OpenSQLite(ctx, where, keys, store.Options{})
}

func isPostgres(where string) bool {
	where = resolve(where)
	for _, scheme := range postgresSchemes {
		if strings.HasPrefix(where, scheme) {
			return true
		}
	}
	return strings.Contains(where, "host=")
}

// resolve replaces placeholders such as {env.DATABASE_URL}: a password on the
// command line would stand in the process list.
func resolve(text string) string { return caddy.NewReplacer().ReplaceKnown(text, "") }
