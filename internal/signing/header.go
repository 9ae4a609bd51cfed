package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of RFC 9421 and RFC 9530, as keys of an http.Header.
const (
	headerInput     = "Signature-Input"
	headerSignature = "Signature"
	headerDigest    = "Content-Digest"
)

// maxComponents bounds the work that a list can ask for.
const maxComponents = 64

// covered is a set of the components that a rule asks for.
type covered uint8

const (
	coversMethod covered = 1 << iota
	coversAuthority
	coversPath
	coversQuery
	coversDigest
	coversType
	coversAuthorization
	coversTarget
)

// bit tells which one of the known components this is; 0 for others.
func bit(name string) covered {
	switch name {
	case "@method":
		return coversMethod
	case "@authority":
		return coversAuthority
	case "@path":
		return coversPath
	case "@query":
		return coversQuery
	case "content-digest":
		return coversDigest
	case "content-type":
		return coversType
	case "authorization":
		return coversAuthorization
	case "@target-uri":
		return coversTarget
	}
	return 0
}

// headerState is what op1 and rfc9421 read from the headers. Its strings are
// parts of the header values.
type headerState struct {
	list, params string // as in input
	signature    string // base64
	covered      covered
	digest       contentDigest
	expires      int64 // Unix seconds
	hasExpires   bool
}

func (h *headerState) read(in *input) {
	h.list, h.params = in.list, in.params
	h.expires, h.hasExpires = in.expires, in.hasExpires
}

// hasContent tells whether r has a body, as far as that is known.
func hasContent(r *Request) bool {
	return r.ContentLength != 0 || r.BodyRead && len(r.Body) > 0
}

// base64Strict takes no stray bits in the last character: one signature has
// one text.
var base64Strict = base64.StdEncoding.Strict()

// decodeSignature decodes into s.sig.
func (s *scratch) decodeSignature(text string) ([]byte, error) {
	if len(text) > len(s.text) {
		return nil, errSignature
	}
	n, err := base64Strict.Decode(s.sig[:], s.text[:copy(s.text[:], text)])
	// The decoder skips line breaks; the length finds them.
	if err != nil || base64.StdEncoding.EncodedLen(n) != len(text) {
		return nil, errSignature
	}
	return s.sig[:n], nil
}

// check verifies the signature over the base in s.buf with k. The key alone
// decides the algorithm; with pss, an RSA key also takes rsa-pss-sha512.
func (k *Key) check(s *scratch, signature []byte, alg string, pss bool) bool {
	switch public := k.public.(type) {
	case nil:
		return subtle.ConstantTimeCompare(k.hmac.sum(s, s.buf), signature) == 1
	case ed25519.PublicKey:
		return ed25519.Verify(public, s.buf, signature)
	case *rsa.PublicKey:
		if alg != algRSAPSS {
			sum := sha256.Sum256(s.buf)
			if rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil {
				return true
			}
		}
		if pss && alg != algRSA {
			sum := sha512.Sum512(s.buf)
			return rsa.VerifyPSS(public, crypto.SHA512, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	}
	return false
}

// makeSignature signs base; RSA keys sign by rsa-v1_5-sha256.
func (k *SigningKey) makeSignature(base []byte) ([]byte, error) {
	switch private := k.private.(type) {
	case nil:
		s := getScratch()
		defer s.put()
		return append([]byte(nil), k.hmac.sum(s, base)...), nil
	case *rsa.PrivateKey:
		sum := sha256.Sum256(base)
		return rsa.SignPKCS1v15(nil, private, crypto.SHA256, sum[:])
	default:
		// Ed25519 is deterministic: it reads no randomness.
		return private.Sign(nil, base, crypto.Hash(0))
	}
}

// verifyHeader checks the signature of c over the base of r.
func verifyHeader(c *Claim, r *Request, k *Key, single, pss bool) error {
	h := &c.state.header
	s := getScratch()
	defer s.put()
	var err error
	if s.buf, err = appendBase(s.buf[:0], r, h.list, h.params, single); err != nil {
		return err
	}
	signature, err := s.decodeSignature(h.signature)
	if err != nil {
		return err
	}
	if !k.check(s, signature, c.Method, pss) {
		return errMismatch
	}
	return nil
}

// keyNumber splits "appKey#n". Without a number, n is 0.
func keyNumber(id string) (appKey string, n int, ok bool) {
	appKey, digits, found := strings.Cut(id, "#")
	if !found {
		return id, 0, id != ""
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > 999 || digits[0] < '1' || digits[0] > '9' || appKey == "" {
		return "", 0, false
	}
	return appKey, n, true
}

// profile is what differs between the signatures that op1 and rfc9421 make.
type profile struct {
	label string
	tag   string
	alg   bool // name the algorithm
}

// signHeader makes the headers of a signature that covers the method, the
// authority, the path, the query, and the digest of the body, the media type
// and the authorization where there are such.
func signHeader(p profile, r *Request, cred Credentials, now time.Time, nonce string) (*Signed, error) {
	id := cred.AppKey
	if cred.KeyNumber != 0 {
		id += "#" + strconv.Itoa(cred.KeyNumber)
	}
	if appKey, n, ok := keyNumber(id); !ok || appKey != cred.AppKey || n != cred.KeyNumber || !quotable(id) {
		return nil, errors.New("the app key must be printable ASCII without quotes, backslash and #; the key number 1 to 999, or 0 for none")
	}
	if !quotable(nonce) {
		return nil, errors.New("the nonce must be printable ASCII without quotes and backslash")
	}

	signed := *r
	signed.Header = r.Header.Clone()
	if signed.Header == nil {
		signed.Header = http.Header{}
	}
	if cred.Token != "" {
		signed.Header.Set("Authorization", "Bearer "+cred.Token)
	}
	if r.BodyRead || len(r.Body) > 0 {
		signed.Header.Del(headerDigest)
		if len(r.Body) > 0 {
			sum := sha256.Sum256(r.Body)
			signed.Header.Set(headerDigest, digestPrefix+base64.StdEncoding.EncodeToString(sum[:])+":")
		}
	} else if r.ContentLength != 0 && len(signed.Header[headerDigest]) == 0 {
		return nil, fmt.Errorf("the body is not at hand: set Body and BodyRead, or the header %s", headerDigest)
	}

	components := []string{`"@method" "@authority" "@path" "@query"`}
	for _, name := range []string{"content-digest", "content-type", "authorization"} {
		if len(headerValues(&signed, name)) > 0 {
			components = append(components, `"`+name+`"`)
		}
	}
	list := strings.Join(components, " ")
	params := "(" + list + ");created=" + strconv.FormatInt(now.Unix(), 10)
	if nonce != "" {
		params += `;nonce="` + nonce + `"`
	}
	params += `;keyid="` + id + `"`
	if p.alg {
		params += `;alg="` + cred.Key.method + `"`
	}
	if p.tag != "" {
		params += `;tag="` + p.tag + `"`
	}

	base, err := appendBase(nil, &signed, list, params, true)
	if err != nil {
		return nil, err
	}
	signature, err := cred.Key.makeSignature(base)
	if err != nil {
		return nil, fmt.Errorf("making the signature: %w", err)
	}
	signed.Header.Set(headerInput, p.label+"="+params)
	signed.Header.Set(headerSignature, p.label+"=:"+base64.StdEncoding.EncodeToString(signature)+":")
	return &Signed{Header: signed.Header, RawQuery: r.RawQuery, Body: r.Body, StringToSign: string(base)}, nil
}

// signatureHeaders is made once: strip is on the way of every call.
var signatureHeaders = []string{headerInput, headerSignature}

// quotable tells whether s can stand between quotes without escapes.
func quotable(s string) bool {
	return stringLen(`"`+s+`"`) == len(s)+2 && !strings.Contains(s, `\`)
}
