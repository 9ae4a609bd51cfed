package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// rotateBatch is how many secrets are re-encrypted in one transaction.
const rotateBatch = 200

// ErrWrongKey says that the keyring is not the database's.
var ErrWrongKey = errors.New("the master key does not match this database")

// checkSubject is what the check values seal: whoever opens it has the key.
const checkSubject = "open platform master key"

func keyPlace(id string) []byte { return []byte("master key\x00" + id) }

// CheckKeys says by ErrWrongKey that the database would not open with the keys.
func (s *Store) CheckKeys(ctx context.Context, keys *Keyring) error {
	return s.load(func(r *reader) error {
		_, err := r.checkKeys(ctx, keys)
		return err
	})
}

// checkKeys refuses a keyring that lacks a key of the database, and tells whether
// the database knows the primary one.
func (r *reader) checkKeys(ctx context.Context, keys *Keyring) (known bool, err error) {
	err = r.each(ctx, func(rows *sql.Rows) error {
		var id string
		var seal []byte
		if err := rows.Scan(&id, &seal); err != nil {
			return err
		}
		if keys.find(id) == nil {
			return fmt.Errorf("%w: it was written with key %s, and the keyring has %s", ErrWrongKey, id, keys.PrimaryID())
		}
		if _, err := keys.Open(id, seal, keyPlace(id)); err != nil {
			return fmt.Errorf("%w: key %s fails the check", ErrWrongKey, id)
		}
		known = known || id == keys.PrimaryID()
		return nil
	}, `SELECT id, check_seal FROM master_keys`)
	return known, err
}

// noteKeys refuses a keyring that lacks a key of the database, and notes the
// primary key in the database. Every sealed secret refers to a noted key.
func (s *Store) noteKeys(ctx context.Context, keys *Keyring) error {
	return s.update(ctx, nil, func(t *tx) error {
		known, err := t.checkKeys(ctx, keys)
		if err != nil || known {
			return err
		}
		id, seal, err := keys.Seal(t.store.rand, []byte(checkSubject), keyPlace(keys.PrimaryID()))
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO master_keys (id, check_seal, created_at) VALUES (?, ?, ?)`, id, seal, micros(s.now()))
		return err
	})
}

// AddKeys lets the store read what other nodes seal with the keys. Its own primary
// key stays.
func (s *Store) AddKeys(keys *Keyring) { s.keys.Store(s.keys.Load().with(keys)) }

// RotateKeys re-encrypts all secrets under fresh's primary key, in batches
// between which other work goes on, and then forgets the older keys. Progress,
// which may be nil, is called after each batch. After a failure or a crash the
// store opens with a keyring of the new and the old keys, and RotateKeys goes
// on where it stopped: so write both to the key file before. The store needs the
// new one alone after. A second rotation by the same store at the same time is ErrConflict;
// one by another node is waited for, as nodes that start together with a new key all rotate.
// What came of it is in the audit log, as done by the actor.
func (s *Store) RotateKeys(ctx context.Context, actor string, fresh *Keyring, progress func(done, total int)) error {
	if !s.rotating.TryLock() {
		return fmt.Errorf("rotating the master key: another rotation is under way: %w", platform.ErrConflict)
	}
	defer s.rotating.Unlock()
	if s.pool != nil {
		lock, err := s.inTurn(ctx, lockRotate)
		if err != nil {
			return fmt.Errorf("rotating the master key: %w", err)
		}
		defer release(ctx, lock)
	}
	if err := s.rotate(ctx, actor, fresh, progress); err != nil {
		return fmt.Errorf("rotating the master key: %w", err)
	}
	return nil
}

func (s *Store) rotate(ctx context.Context, actor string, fresh *Keyring, progress func(done, total int)) error {
	both := fresh.with(s.keys.Load())
	if err := s.noteKeys(ctx, both); err != nil {
		return err
	}
	// From here on writers seal with the new key. One that used the old keyring
	// before is the only writer until it is done, so the first batch begins
	// after it, and the batches find what it sealed. Another node goes on with
	// the old keyring until the last step, which its secrets refuse: rotate
	// again when all nodes have the new key file. The old keys stay at
	// hand for readers that began before the last batch.
	s.keys.Store(both)
	id := fresh.PrimaryID()
	done, total := 0, 0
	err := s.update(ctx, nil, func(t *tx) error {
		return t.one(ctx, []any{&total}, `SELECT (SELECT count(*) FROM app_credentials WHERE key_id <> ?) + (SELECT count(*) FROM push_keys WHERE key_id <> ?)`, id, id)
	})
	if err != nil {
		return err
	}
	for _, table := range sealedTables {
		var last sealedRow
		for {
			var batch []sealedRow
			err := s.update(ctx, nil, func(t *tx) (err error) {
				batch, err = t.resealAfter(ctx, table, last, id)
				return err
			})
			if err != nil {
				return err
			}
			if len(batch) == 0 {
				break
			}
			done, last = done+len(batch), batch[len(batch)-1]
			if progress != nil {
				progress(done, max(done, total))
			}
		}
	}
	// A secret that is still under an old key refuses the removal of its key.
	return s.update(ctx, nil, func(t *tx) error {
		var older []string
		err := t.each(ctx, func(rows *sql.Rows) error {
			older = append(older, "")
			return rows.Scan(&older[len(older)-1])
		}, `DELETE FROM master_keys WHERE id <> ? RETURNING id`, id)
		if err != nil || len(older) == 0 {
			return named(err, "secrets under an older key are left: rotate again")
		}
		before, _ := json.Marshal(map[string][]string{"keys": older}) // strings cannot fail
		after, _ := json.Marshal(map[string][]string{"keys": {id}})
		return t.AppendAudit(ctx, &platform.AuditEntry{
			At: s.now().UTC(), Actor: actor, Action: "master_key.rotate", Target: id, Before: before, After: after,
		})
	})
}

// sealedTable is a table with secrets: each belongs to an app and has a number.
type sealedTable struct {
	name, column string
	// what a row is, in errors.
	what  string
	place func(appID string, number int) []byte
}

var sealedTables = []sealedTable{
	{"app_credentials", "secret", "credential", credentialPlace},
	{"push_keys", "sealed", "push key", pushKeyPlace},
}

// sealedRow is a secret as a rotation sees it.
type sealedRow struct {
	app    uint64
	number int
	appID  string
	keyID  string
	sealed []byte
}

// resealAfter re-encrypts the next batch of secrets that are not under the
// key, and returns it.
func (t *tx) resealAfter(ctx context.Context, table sealedTable, last sealedRow, keyID string) ([]sealedRow, error) {
	var batch []sealedRow
	err := t.each(ctx, func(rows *sql.Rows) error {
		var r sealedRow
		err := rows.Scan(&r.app, &r.number, &r.appID, &r.keyID, &r.sealed)
		batch = append(batch, r)
		return err
	}, `SELECT c.app, c.number, a.id, c.key_id, c.`+table.column+` FROM `+table.name+` c JOIN apps a ON a.number = c.app
		WHERE (c.app, c.number) > (?, ?) AND c.key_id <> ? ORDER BY c.app, c.number LIMIT ?`,
		last.app, last.number, keyID, rotateBatch)
	if err != nil {
		return nil, err
	}
	for _, r := range batch {
		place := table.place(r.appID, r.number)
		secret, err := t.keys.Load().Open(r.keyID, r.sealed, place)
		if err != nil {
			return nil, fmt.Errorf("%s %d of app %s: %w", table.what, r.number, r.appID, err)
		}
		id, sealed, err := t.keys.Load().Seal(t.store.rand, secret, place)
		if err != nil {
			return nil, err
		}
		_, err = t.exec(ctx, `UPDATE `+table.name+` SET `+table.column+` = ?, key_id = ? WHERE app = ? AND number = ?`, sealed, id, r.app, r.number)
		if err != nil {
			return nil, err
		}
	}
	return batch, nil
}
