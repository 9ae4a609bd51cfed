package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSink(t *testing.T) {
	alive, parent := io.Pipe()
	heard, tell := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveSink(alive, tell) }()
	var told addresses
	require.NoError(t, json.NewDecoder(heard).Decode(&told))
	require.Len(t, told.TLS, hosts)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(told.CA))

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	for _, target := range []string{told.Plain, told.TLS[0], told.TLS[hosts-1]} {
		require.NoError(t, post(t.Context(), client, target, data))
	}
	transport.CloseIdleConnections()
	require.Error(t, post(t.Context(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, told.TLS[0], data), "the CA is the test's")

	require.NoError(t, parent.Close(), "the sink ends with its parent")
	require.NoError(t, <-done)
}

func TestData(t *testing.T) {
	require.Len(t, data, 1024)
	require.True(t, json.Valid(data))
}
