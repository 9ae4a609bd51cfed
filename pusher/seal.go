package pusher

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

const (
	nonceSize = 12
	tagSize   = 16
	// maxScratch is the largest buffer that is kept for the next body.
	maxScratch = 64 << 10
)

const (
	bodyHead = `{"encrypt":"`
	bodyTail = `"}`
)

// sealer encrypts bodies for one app: JWE in the compact form, A256KW and
// A256GCM (RFC 7516, RFC 7518 sections 4.4 and 5.3). It is safe for concurrent
// use.
type sealer struct {
	number  int
	wrapper cipher.Block
	// header is the protected header in base64.
	header []byte
}

func newSealer(appKey string, k *platform.PushKey) (*sealer, error) {
	w, err := newWrapper(k.Secret.Reveal())
	if err != nil {
		return nil, fmt.Errorf("push key %d: %w", k.Number, err)
	}
	header, err := json.Marshal(jweHeader{Alg: "A256KW", Enc: "A256GCM", Kid: appKey + "." + strconv.Itoa(k.Number), Cty: "application/cloudevents+json"})
	if err != nil {
		return nil, err
	}
	return &sealer{number: k.Number, wrapper: w, header: appendBase64(nil, header)}, nil
}

type jweHeader struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	Kid string `json:"kid"`
	Cty string `json:"cty"`
}

// sealScratch is the memory of one encryption.
type sealScratch struct {
	plain   []byte
	secret  [cekSize + nonceSize]byte
	wrapped [wrappedSize]byte
	cipher  []byte
}

var sealScratches = sync.Pool{New: func() any { return new(sealScratch) }}

func (s *sealScratch) put() {
	clear(s.secret[:])
	if cap(s.plain) <= maxScratch && cap(s.cipher) <= maxScratch {
		sealScratches.Put(s)
	}
}

// seal returns the body that carries the event: {"encrypt":"<JWE>"}. Each body
// has a content key of its own, so that random nonces are safe at any volume.
func (s *sealer) seal(random io.Reader, e event, appKey []byte) ([]byte, error) {
	m := sealScratches.Get().(*sealScratch)
	defer m.put()
	if _, err := io.ReadFull(random, m.secret[:]); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	cek, nonce := (*[cekSize]byte)(m.secret[:]), m.secret[cekSize:]
	wrapKey(s.wrapper, &m.wrapped, cek)
	aead, err := newGCM(cek[:])
	if err != nil {
		return nil, err
	}
	m.plain = e.appendTo(m.plain[:0], appKey)
	m.cipher = aead.Seal(m.cipher[:0], nonce, m.plain, s.header)

	size := base64.RawURLEncoding.EncodedLen
	text := len(m.cipher) - tagSize
	out := make([]byte, 0, len(bodyHead)+len(s.header)+4+size(wrappedSize)+size(nonceSize)+size(text)+size(tagSize)+len(bodyTail))
	out = append(out, bodyHead...)
	out = append(out, s.header...)
	for _, part := range [...][]byte{m.wrapped[:], nonce, m.cipher[:text], m.cipher[text:]} {
		out = append(out, '.')
		out = appendBase64(out, part)
	}
	return append(out, bodyTail...), nil
}

var errBody = errors.New("not a body of ours: want {\"encrypt\":\"<JWE, compact, A256KW, A256GCM>\"}")

// Decrypt returns what is in a body as seal writes it, with the key that wrapped
// it. It is what a receiver does: alg and enc are pinned.
func Decrypt(key, body []byte) ([]byte, error) {
	text, ok := bytes.CutPrefix(body, []byte(bodyHead))
	if ok {
		text, ok = bytes.CutSuffix(text, []byte(bodyTail))
	}
	parts := bytes.Split(text, []byte{'.'})
	if !ok || len(parts) != 5 {
		return nil, errBody
	}
	var raw [5][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().AppendDecode(nil, p); err != nil {
			return nil, errBody
		}
	}
	var h jweHeader
	if err := json.Unmarshal(raw[0], &h); err != nil || h.Alg != "A256KW" || h.Enc != "A256GCM" {
		return nil, errBody
	}
	if len(raw[1]) != wrappedSize || len(raw[2]) != nonceSize || len(raw[4]) != tagSize {
		return nil, errBody
	}
	w, err := newWrapper(key)
	if err != nil {
		return nil, err
	}
	var cek [cekSize]byte
	if err := unwrapKey(w, &cek, (*[wrappedSize]byte)(raw[1])); err != nil {
		return nil, err
	}
	aead, err := newGCM(cek[:])
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, raw[2], append(raw[3], raw[4]...), parts[0])
}

func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func appendBase64(dst, src []byte) []byte { return base64.RawURLEncoding.AppendEncode(dst, src) }
