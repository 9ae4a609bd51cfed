package oauth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
)

// onceFor asks for what an authorization gives: by code or by device.
func (f *fixture) onceFor() map[string]func(changes ...string) []string {
	return map[string]func(changes ...string) []string{
		"code": func(changes ...string) []string { return codePairs(f.native, f.code(f.native, changes...)) },
		"device": func(changes ...string) []string {
			d := f.device(f.native, changes...)
			f.approve(d)
			return []string{"grant_type", deviceGrant, "device_code", d.str("device_code")}
		},
	}
}

// remembering makes a server that remembers at most so many proofs.
func (f *fixture) remembering(most int) (*oauth.Server, *limit.MemoryNonces) {
	f.t.Helper()
	nonces := limit.NewMemoryNonces(limit.NonceOptions{Max: most, Bucket: time.Second})
	s, err := oauth.New(oauth.Options{
		Store: f.store, Apps: f.store, Issuer: issuer, Now: f.clock, DPoP: true, Activation: issuer + "/oauth/activate",
		Ledger: &limit.Local{Limits: limit.NewMemory(limit.MemoryOptions{}), Nonces: nonces},
	})
	require.NoError(f.t, err)
	return s, nonces
}

// A client that is told to come again, and one whose proof was used, finds its
// code unspent.
func TestProofIsUsedBeforeCode(t *testing.T) {
	f := newFixture(t)
	for name, pairs := range f.onceFor() {
		t.Run(name, func(t *testing.T) {
			s, nonces := f.remembering(1)
			p := f.prover()
			ask := func(proof string, pairs ...string) reply {
				r := request("/oauth/token", f.as(f.native, pairs...))
				r.Header.Set("DPoP", proof)
				return f.serve(s.TokenHandler(), r)
			}
			used := p.proof()
			require.Equal(t, 200, ask(used, pairs()...).Code)
			again := pairs()
			requireError(t, ask(used, again...), 400, "invalid_dpop_proof")
			refused := ask(p.proof(), again...)
			requireError(t, refused, 503, "temporarily_unavailable")
			require.Equal(t, "1", refused.Header().Get("Retry-After"))
			nonces.Sweep(f.clock().Add(time.Hour))
			tokens := ask(p.proof(), again...)
			require.Equal(t, 200, tokens.Code, tokens.Body)
			require.Equal(t, "DPoP", tokens.str("token_type"))

			nonces.Sweep(f.clock().Add(time.Hour))
			requireError(t, ask(p.proof(), again...), 400, "invalid_grant")
			require.Zero(t, nonces.Stats().Entries, "a replay uses no proof")
			requireError(t, f.refresh(f.native, tokens.str("refresh_token")), 400, "invalid_grant")
		})
	}
}

// A request that an authorization does not cover uses no proof, and spends the
// code all the same: nothing about it can be guessed.
func TestRefusedCodeUsesNoProof(t *testing.T) {
	f := newFixture(t)
	s, nonces := f.remembering(0)
	proof := f.prover().proof()
	ask := func(pairs ...string) reply {
		r := request("/oauth/token", f.as(f.native, pairs...))
		r.Header.Set("DPoP", proof)
		return f.serve(s.TokenHandler(), r)
	}
	for name, pairs := range f.onceFor() {
		good := pairs()
		requireError(t, ask(append(good, "resource", "https://elsewhere.example")...), 400, "invalid_target")
		requireError(t, ask(good...), 400, "invalid_grant")
		late := pairs()
		f.pass(oauth.DeviceLifetime)
		proof = f.prover().proof()
		require.Equal(t, 400, ask(late...).Code, name)
	}
	wrong := codePairs(f.native, f.code(f.native))
	requireError(t, ask(append(wrong[:6:6], "code_verifier", strings.Repeat("A", 43))...), 400, "invalid_grant")
	requireError(t, ask(wrong...), 400, "invalid_grant")
	for name, pairs := range f.onceFor() {
		good := pairs()
		_, err := f.service.DisableUser(t.Context(), "test", f.user.ID)
		require.NoError(t, err)
		requireError(t, ask(good...), 400, "invalid_grant")
		_, err = f.service.EnableUser(t.Context(), "test", f.user.ID)
		require.NoError(t, err)
		require.Zero(t, nonces.Stats().Entries, name)
	}
	require.Zero(t, nonces.Stats().Entries)
}
