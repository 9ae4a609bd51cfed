package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// verify checks a request as the gate does.
func verify(r *http.Request, body []byte, now time.Time, keys map[string]*signing.Key) (*signing.Claim, error) {
	set, err := signing.NewSet("op1")
	if err != nil {
		return nil, err
	}
	seen := &signing.Request{
		Method: r.Method, Scheme: "http", Authority: r.Host, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery,
		Header: r.Header, ContentLength: r.ContentLength, Body: body, BodyRead: true,
	}
	var claim signing.Claim
	if err := set.Claim(&claim, seen); err != nil {
		return nil, err
	}
	key, ok := keys[claim.AppKey]
	if !ok {
		return nil, fmt.Errorf("unknown app %s", claim.AppKey)
	}
	if _, err := claim.Verify(seen, []*signing.Key{key}, signing.Options{Now: now}); err != nil {
		return nil, err
	}
	return &claim, claim.CheckBody(body)
}

func keysOf(t *testing.T, numbers ...int) map[string]*signing.Key {
	t.Helper()
	keys := map[string]*signing.Key{}
	for _, n := range numbers {
		key, err := signing.NewSecretKey("op1", "", 1, secret(n))
		require.NoError(t, err)
		keys[appKey(n)] = key
	}
	return keys
}

func TestSignerMakesCallsThatVerify(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	callers, err := activeCallers(100, 5)
	require.NoError(t, err)
	keys := keysOf(t, 1, 21, 41, 61, 81)
	s := site{Variant: gated, Scheme: "http", Address: "127.0.0.1:18080"}
	next := signer([]site{s}, callers, newNonces(now), func() time.Time { return now })

	nonces, calls := map[string]bool{}, map[string]bool{}
	for range 25 {
		var target vegeta.Target
		require.NoError(t, next(&target))
		req, err := target.Request()
		require.NoError(t, err)
		claim, err := verify(req, target.Body, now, keys)
		require.NoError(t, err)
		require.Equal(t, now, claim.Time)
		nonces[claim.Nonce] = true
		calls[claim.AppKey+" "+target.Method+" "+target.URL] = true
	}
	require.Len(t, nonces, 25, "no nonce is used twice")
	require.Len(t, calls, 25, "every app makes every call of the mix")

	var target vegeta.Target
	require.NoError(t, next(&target))
	target.URL += "0"
	req, err := target.Request()
	require.NoError(t, err)
	_, err = verify(req, target.Body, now, keys)
	require.ErrorIs(t, err, signing.ErrInvalid, "the signature covers the path")
}

func TestAttack(t *testing.T) {
	callers, err := activeCallers(3, 3)
	require.NoError(t, err)
	keys := keysOf(t, 1, 2, 3)
	var served atomic.Uint64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := verify(r, body, time.Now(), keys); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		served.Add(1)
	}))
	t.Cleanup(server.Close)
	client := newClient(4, nil)
	t.Cleanup(client.CloseIdleConnections)
	s := site{Variant: gated, Scheme: "http", Address: strings.TrimPrefix(server.URL, "http://")}

	good := load{variant: gated, next: signer([]site{s}, callers, newNonces(time.Now()), time.Now), want: http.StatusOK}

	seen, err := attack(t.Context(), client, good, count(200), 4, time.Minute)
	require.NoError(t, err)
	require.EqualValues(t, 200, seen.requests)
	require.EqualValues(t, 200, served.Load())
	require.Positive(t, seen.rate)
	require.LessOrEqual(t, seen.p50, seen.p99)

	past := func() time.Time { return time.Now().Add(-time.Hour) }
	late := load{variant: gated, next: signer([]site{s}, callers, newNonces(time.Now()), past), want: http.StatusOK}
	_, err = attack(t.Context(), client, late, count(5), 4, time.Minute)
	require.ErrorContains(t, err, "5 of 5 requests were not answered 200")
	require.ErrorContains(t, err, "timestamp out of range", "the first refusal is shown")

	strangers, err := forgers(callers)
	require.NoError(t, err)
	require.Equal(t, callers[2].appKey, strangers[2].appKey)
	bad := load{variant: gated, next: signer([]site{s}, strangers, newNonces(time.Now()), time.Now), want: http.StatusUnauthorized}
	seen, err = attack(t.Context(), client, bad, count(9), 4, time.Minute)
	require.NoError(t, err, "a flood expects its refusals")
	require.EqualValues(t, 9, seen.requests)
	require.EqualValues(t, 200, served.Load(), "none of them got through")
	good.want = http.StatusUnauthorized
	_, err = attack(t.Context(), client, good, count(2), 4, time.Minute)
	require.ErrorContains(t, err, "2 of 2 requests were not answered 401")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = attack(ended, client, good, unlimited, 4, time.Minute)
	require.ErrorIs(t, err, context.Canceled, "Ctrl-C ends a run")
}

func TestUpstream(t *testing.T) {
	alive, parent := io.Pipe()
	told, tell := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveUpstream(alive, tell) }()
	line := make([]byte, 64)
	n, err := told.Read(line)
	require.NoError(t, err)

	client := newClient(1, nil)
	t.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://"+strings.TrimSpace(string(line[:n]))+"/v1/orders", bytes.NewReader(mix[4].body))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Len(t, body, answerSize)

	require.NoError(t, parent.Close(), "the upstream ends with its parent")
	require.NoError(t, <-done)
}
