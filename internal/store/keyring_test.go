package store

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestParseKeyring(t *testing.T) {
	odd := bytes.Repeat([]byte{0xfb, 0xff}, 16) // + and / in base64
	for name, text := range map[string]string{
		"hex":              hex.EncodeToString(odd),
		"upper hex":        strings.ToUpper(hex.EncodeToString(odd)) + "\r\n",
		"base64":           base64.StdEncoding.EncodeToString(odd),
		"base64url":        base64.RawURLEncoding.EncodeToString(odd),
		"blanks, comments": "# made today\n\n  " + hex.EncodeToString(odd) + "  \n",
	} {
		k, err := ParseKeyring(text)
		require.NoError(t, err, name)
		require.Equal(t, [][]byte{odd}, k.Keys(), name)
	}
	two, err := ParseKeyring(hex.EncodeToString(testKey(1)) + "\n" + hex.EncodeToString(testKey(2)))
	require.NoError(t, err)
	require.Equal(t, [][]byte{testKey(1), testKey(2)}, two.Keys())
	require.Equal(t, "72cd6e84", two.PrimaryID(), "the first 8 hex digits of SHA-256")
}

func TestParseKeyringErrors(t *testing.T) {
	good := hex.EncodeToString(testKey(1))
	for text, want := range map[string]string{
		"":                            "no key found",
		"# nothing":                   "no key found",
		"hunter2-hunter2":             "line 1: not a key; want 64 hex digits",
		good + "\n" + good[:62]:       "line 2: not a key",
		good + "\n" + good:            "master key 2 is there twice",
		strings.Repeat("a", 1<<20):    "line is too long",
		good + "\n" + good[:63] + "g": "line 2: not a key",
	} {
		_, err := ParseKeyring(text)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2", "an error never quotes the key")
	}
	_, err := NewKeyring(testKey(1), []byte("short"))
	require.EqualError(t, err, "master key 2 has 5 bytes; want exactly 32")
}

func FuzzParseKeyring(f *testing.F) {
	f.Add(hex.EncodeToString(testKey(1)))
	f.Add(base64.StdEncoding.EncodeToString(testKey(2)) + "\n#x")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKeyring(text)
		if err != nil {
			return
		}
		for _, key := range k.Keys() {
			require.Len(t, key, keySize)
		}
	})
}

func TestSealOpen(t *testing.T) {
	old, both := testKeyring(t, 1), testKeyring(t, 2, 1)
	id, sealed, err := old.Seal(rand.Reader, []byte("secret"), []byte("row 1"))
	require.NoError(t, err)
	require.Equal(t, old.PrimaryID(), id)
	require.NotContains(t, string(sealed), "secret")
	plain, err := both.Open(id, sealed, []byte("row 1"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
	_, again, err := old.Seal(rand.Reader, []byte("secret"), []byte("row 1"))
	require.NoError(t, err)
	require.NotEqual(t, sealed, again, "each has its own nonce")

	_, err = both.Open(id, sealed, []byte("row 2"))
	require.ErrorContains(t, err, "moved to another row")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		_, err = both.Open(id, changed, []byte("row 1"))
		require.Error(t, err, "byte %d", i)
	}
	_, err = both.Open(id, sealed[:5], []byte("row 1"))
	require.ErrorContains(t, err, "cut short")
	_, err = testKeyring(t, 3).Open(id, sealed, []byte("row 1"))
	require.ErrorContains(t, err, "master key "+id+" is not at hand")
	_, _, err = old.Seal(iotest.ErrReader(os.ErrClosed), nil, nil)
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestKeyringNeverPrints(t *testing.T) {
	k, err := ParseKeyring(hex.EncodeToString([]byte("a very secret master key, really")))
	require.NoError(t, err)
	asJSON, err := json.Marshal([]any{k, *k})
	require.NoError(t, err)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %s %x %d", k, k, k, k, k, k), fmt.Sprint(*k), string(asJSON)} {
		require.NotContains(t, s, "very")
		require.NotContains(t, s, hex.EncodeToString([]byte("very")))
		require.NotContains(t, s, "118 101 114 121")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "master.key")
	made, err := LoadOrCreateKeyFile(path, rand.Reader)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := LoadOrCreateKeyFile(path, iotest.ErrReader(os.ErrClosed))
	require.NoError(t, err, "a file that is there needs no randomness")
	require.Equal(t, made.Keys(), again.Keys())

	require.NoError(t, WriteKeyFile(path, testKey(5), made.Keys()[0]))
	two, err := LoadOrCreateKeyFile(path, rand.Reader)
	require.NoError(t, err)
	require.Equal(t, [][]byte{testKey(5), made.Keys()[0]}, two.Keys())
	require.Error(t, WriteKeyFile(path))
	require.Error(t, WriteKeyFile(path, []byte("short")))
	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 1, "nothing temporary stays")

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = LoadOrCreateKeyFile(path, rand.Reader)
	require.EqualError(t, err, "master key file "+path+" may be read by others (mode 0640); run: chmod 600 "+path)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte("password"), 0o600))
	_, err = LoadOrCreateKeyFile(path, rand.Reader)
	require.ErrorContains(t, err, path+": master key, line 1: not a key")
	require.NotContains(t, err.Error(), "password")
}

// Processes that start together agree on one key.
func TestKeyFileRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	var wg sync.WaitGroup
	rings, errs := make([]*Keyring, 16), make([]error, 16)
	for i := range rings {
		wg.Go(func() { rings[i], errs[i] = LoadOrCreateKeyFile(path, rand.Reader) })
	}
	wg.Wait()
	for i := range rings {
		require.NoError(t, errs[i])
		require.Equal(t, rings[0].PrimaryID(), rings[i].PrimaryID())
	}
}
