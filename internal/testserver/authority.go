package testserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Authority signs certificates of servers and clients. Its key stays in memory.
type Authority struct {
	// PEM is its own certificate.
	PEM []byte

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// validity outlasts any run.
const validity = 24 * time.Hour

// NewAuthority makes an authority.
func NewAuthority() (*Authority, error) {
	a := &Authority{certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var der []byte
	var err error
	if der, a.key, err = a.sign(a.certificate, nil); err != nil {
		return nil, err
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a, nil
}

// Issue makes a certificate, with its key, for a server at the addresses, or a
// client.
func (a *Authority) Issue(name string, addresses ...net.IP) (tls.Certificate, error) {
	der, key, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Certificate is what a server of the name on 127.0.0.1 proves itself with, as it is
// read from files.
type Certificate struct {
	// Authority signed it. Key is in PKCS #8.
	Authority, PEM, Key []byte
}

// NewCertificate makes a certificate, by an authority of its own.
func NewCertificate(tb testing.TB, name string) Certificate {
	tb.Helper()
	authority, err := NewAuthority()
	require.NoError(tb, err)
	issued, err := authority.Issue(name, net.IPv4(127, 0, 0, 1))
	require.NoError(tb, err)
	key, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	require.NoError(tb, err)
	return Certificate{
		Authority: authority.PEM, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate[0]}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}

// sign completes a certificate, with a new key, and signs it: with that key where
// by is nil.
func (a *Authority) sign(c *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	if by == nil {
		by = key
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(validity)
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), by)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	return der, key, nil
}
