package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxKeyFile bounds what is read as a key file, in bytes.
const maxKeyFile = 64 << 10

// LoadOrCreateKeyFile reads the keyring of a file (see [ParseKeyring]). A file
// that does not exist is made with one random key and mode 0600. One that
// others may read is refused.
func LoadOrCreateKeyFile(path string, rand io.Reader) (*Keyring, error) {
	keys, err := LoadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	key, err := NewKey(rand)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the master key file: %w", err)
	}
	// A link never replaces a file, and appears with all of its content: of
	// two processes that start together, one makes the key and both read it.
	err = writeKeys(path, os.Link, key)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return LoadKeyFile(path)
}

// WriteKeyFile replaces the key file, or makes it. The first key is the
// primary one. Whoever reads meanwhile, or after a crash, finds the old file
// or the new one.
func WriteKeyFile(path string, keys ...[]byte) error {
	if len(keys) == 0 {
		return errors.New("writing the master key file: no key; want one or more")
	}
	if _, err := NewKeyring(keys[0], keys[1:]...); err != nil {
		return fmt.Errorf("writing the master key file: %w", err)
	}
	return writeKeys(path, os.Rename, keys...)
}

// LoadKeyFile reads the keyring of a file, see [ParseKeyring]. One that others may
// read is refused.
func LoadKeyFile(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the master key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the master key file: %w", err)
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("master key file %s may be read by others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the master key file: %w", err)
	}
	keys, err := ParseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("master key file %s: %w", path, err)
	}
	return keys, nil
}

// writeKeys writes the keys to a temporary file beside path and puts it there
// by place. It returns when both have reached the disk.
func writeKeys(path string, place func(from, to string) error, keys ...[]byte) error {
	fail := func(err error) error { return fmt.Errorf("writing the master key file: %w", err) }
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".master-key-*") // mode 0600, O_EXCL
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails after a rename
	var text strings.Builder
	for _, key := range keys {
		text.WriteString(hex.EncodeToString(key) + "\n")
	}
	_, err = f.WriteString(text.String())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := place(f.Name(), path); err != nil {
		return fail(err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing the folder %s: %w", dir, err)
	}
	return nil
}
