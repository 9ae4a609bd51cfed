package signing

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// frame is where the secret stands in the string to sign.
type frame int

const (
	frameNone   frame = iota // nowhere: it is only the key of an HMAC
	frameAround              // before and after
	frameAfter               // after
)

// coding is how a signature is written.
type coding int

const (
	upperHex coding = iota
	lowerHex
	base64Std
)

// digest is a digest algorithm as one dialect uses it.
type digest struct {
	method string // the name of it in this package
	wire   string // the name of it in the call's method parameter
	hash   func() hash.Hash
	keyed  bool // HMAC with the secret as key; else the plain hash
	frame  frame
	coding coding
	optIn  bool // rests on MD5
}

func plainMD5(f frame, c coding) digest {
	return digest{method: "md5", wire: "md5", hash: md5.New, frame: f, coding: c, optIn: true}
}

func hmacMD5(c coding) digest {
	return digest{method: "hmac", wire: "hmac", hash: md5.New, keyed: true, coding: c, optIn: true}
}

func hmacSHA1(c coding) digest {
	return digest{method: "hmac-sha1", hash: sha1.New, keyed: true, coding: c}
}

func hmac256(wire string, f frame, c coding) digest {
	return digest{method: "hmac-sha256", wire: wire, hash: sha256.New, keyed: true, frame: f, coding: c}
}

// as gives the method another name on the wire.
func (d digest) as(wire string) digest {
	d.wire = wire
	return d
}

// sum is the digest of a string to sign.
func (d *digest) sum(text, secret []byte) []byte {
	h := d.hash()
	if d.keyed {
		h = hmac.New(d.hash, secret)
	}
	h.Write(text)
	return h.Sum(nil)
}

func (d *digest) encode(sum []byte) string {
	switch d.coding {
	case upperHex:
		return strings.ToUpper(hex.EncodeToString(sum))
	case lowerHex:
		return hex.EncodeToString(sum)
	default:
		return base64.StdEncoding.EncodeToString(sum)
	}
}

// decode reads a signature. Hex may come in either case: the bytes count.
func (d *digest) decode(text string) ([]byte, error) {
	var sum []byte
	var err error
	if d.coding == base64Std {
		// The standard decoder would skip line breaks.
		if strings.ContainsAny(text, "\r\n") {
			err = base64.CorruptInputError(0)
		} else {
			sum, err = base64.StdEncoding.Strict().DecodeString(text)
		}
	} else {
		sum, err = hex.DecodeString(text)
	}
	if err != nil {
		encoding := "hex"
		if d.coding == base64Std {
			encoding = "base64"
		}
		return nil, fmt.Errorf("%w: the signature is no %s", ErrMalformed, encoding)
	}
	return sum, nil
}
