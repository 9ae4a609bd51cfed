package signing

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// body is a request body that remembers whether it was closed.
type body struct {
	io.Reader
	closed bool
}

func (b *body) Close() error {
	b.closed = true
	return nil
}

// readers are the ways in which a body may arrive.
var readers = map[string]func(io.Reader) io.Reader{
	"whole":         func(r io.Reader) io.Reader { return r },
	"byte by byte":  iotest.OneByteReader,
	"half":          iotest.HalfReader,
	"data with EOF": iotest.DataErrReader,
}

func TestDigestReader(t *testing.T) {
	for how, arrive := range readers {
		for _, size := range []int{0, 1, holdBack - 1, holdBack, holdBack + 1, 2 * holdBack, 2*holdBack + 1, 5*holdBack + 7} {
			content := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
			sum := sha256.Sum256(content)

			good := NewDigestReader(&body{Reader: arrive(bytes.NewReader(content))}, sum)
			require.NoError(t, iotest.TestReader(good, content), "%s, %d bytes", how, size)
			require.False(t, good.Mismatch())

			sum[0]++
			bad := NewDigestReader(&body{Reader: arrive(bytes.NewReader(content))}, sum)
			got, err := io.ReadAll(bad)
			require.ErrorIs(t, err, ErrDigest, "%s, %d bytes", how, size)
			require.True(t, bad.Mismatch())
			requireHeldBack(t, content, got)
			_, err = bad.Read(make([]byte, 1))
			require.ErrorIs(t, err, ErrDigest, "the error stays")
		}
	}
}

// requireHeldBack checks what was released of a body with a wrong digest: all
// but the last block, and never more than two blocks kept.
func requireHeldBack(t require.TestingT, content, got []byte) {
	require.True(t, bytes.HasPrefix(content, got))
	require.LessOrEqual(t, len(got), max(0, len(content)-holdBack))
	require.GreaterOrEqual(t, len(got), len(content)-2*holdBack)
}

func TestDigestReaderPassesErrorsThrough(t *testing.T) {
	broken := errors.New("connection reset")
	content := make([]byte, 3*holdBack)
	d := NewDigestReader(&body{Reader: io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken))}, sha256.Sum256(content))
	got, err := io.ReadAll(d)
	require.ErrorIs(t, err, broken)
	require.Len(t, got, 2*holdBack)
	require.False(t, d.Mismatch())
}

func TestDigestReaderClose(t *testing.T) {
	b := &body{Reader: bytes.NewReader(make([]byte, 3*holdBack))}
	d := NewDigestReader(b, [32]byte{})
	_, err := io.ReadFull(d, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.True(t, b.closed)
	require.False(t, d.Mismatch())
}

func TestDigestReaderWithoutProgress(t *testing.T) {
	d := NewDigestReader(&body{Reader: idle{}}, [32]byte{})
	_, err := d.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrNoProgress)
	n, err := d.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

// idle never gives anything.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// pieces gives a body in reads of drawn sizes.
type pieces struct {
	rest  []byte
	sizes []byte
	i     int
}

func (p *pieces) Read(b []byte) (int, error) {
	size := len(b)
	if len(p.sizes) > 0 {
		size = 1 + int(p.sizes[p.i%len(p.sizes)])*257
		p.i++
	}
	n := copy(b[:min(len(b), size)], p.rest)
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// readWith reads d in reads of the given sizes.
func readWith(d *DigestReader, sizes []byte) ([]byte, error) {
	var got []byte
	for i := 0; ; i++ {
		size := 1 << 10
		if len(sizes) > 0 {
			size = 1 + int(sizes[i%len(sizes)])*193
		}
		p := make([]byte, size)
		n, err := d.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			return got, err
		}
	}
}

func checkDigestReader(t require.TestingT, content, in, out []byte, tamper bool) {
	sum := sha256.Sum256(content)
	if tamper {
		sum[31] ^= 1
	}
	got, err := readWith(NewDigestReader(&body{Reader: &pieces{rest: content, sizes: in}}, sum), out)
	if tamper {
		require.ErrorIs(t, err, ErrDigest)
		requireHeldBack(t, content, got)
		return
	}
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, string(content), string(got))
}

func TestDigestReaderProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := bytes.Repeat([]byte{1, 2, 3}, rapid.IntRange(0, holdBack).Draw(t, "length"))
		sizes := rapid.SliceOfN(rapid.Byte(), 0, 5)
		checkDigestReader(t, content, sizes.Draw(t, "in"), sizes.Draw(t, "out"), rapid.Bool().Draw(t, "tamper"))
	})
}

func FuzzDigestReader(f *testing.F) {
	f.Add([]byte("hello"), uint16(1), []byte{0}, []byte{1}, true)
	f.Add([]byte("0123456789"), uint16(7000), []byte{255, 3}, []byte{}, false)
	f.Fuzz(func(t *testing.T, block []byte, times uint16, in, out []byte, tamper bool) {
		if len(block)*int(times) > 1<<20 {
			return
		}
		checkDigestReader(t, bytes.Repeat(block, int(times)), in, out, tamper)
	})
}
