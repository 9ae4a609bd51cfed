package pusher

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestStandardWebhooksVectors: the signatures are those of the standard's own
// libraries.
func TestStandardWebhooksVectors(t *testing.T) {
	raw, err := os.ReadFile("../internal/signing/testdata/vectors/standardwebhooks.json")
	require.NoError(t, err)
	var vectors []struct {
		Name, Body, Secret string
		Headers            map[string]string
		Expected           string `json:"expected_signature"`
		StringToSign       string `json:"string_to_sign"`
	}
	require.NoError(t, json.Unmarshal(raw, &vectors))
	require.NotEmpty(t, vectors)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(v.Secret, "whsec_"))
			require.NoError(t, err)
			s, err := newSigner([]platform.PushKey{{Number: 1, Environment: platform.Production, Kind: platform.SigningKey, Secret: platform.NewSecret(secret)}}, platform.Production)
			require.NoError(t, err)
			sent, err := strconv.ParseInt(v.Headers["webhook-timestamp"], 10, 64)
			require.NoError(t, err)
			id := v.Headers["webhook-id"]
			body := strings.TrimPrefix(v.StringToSign, id+"."+v.Headers["webhook-timestamp"]+".")
			timestamp, got, err := s.sign(id, time.Unix(sent, 0), []byte(body), false)
			require.NoError(t, err)
			require.Equal(t, v.Headers["webhook-timestamp"], timestamp)
			require.Equal(t, v.Expected, got)
		})
	}
}

func TestAllLiveKeysSign(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key := func(number int, k platform.PushKeyKind, e platform.Environment, until time.Time) platform.PushKey {
		return platform.PushKey{Number: number, Environment: e, Kind: k, Secret: platform.NewSecret(testKey(byte(number))), ExpiresAt: until}
	}
	keys := []platform.PushKey{
		key(1, platform.SigningKey, platform.Production, now), // has just ended
		key(2, platform.SigningKey, platform.Production, now.Add(time.Second)),
		key(3, platform.SigningKey, platform.Production, time.Time{}),
		key(4, platform.SigningKey, platform.Sandbox, time.Time{}),
		key(5, platform.Ed25519Key, platform.Production, time.Time{}),
		key(6, platform.EncryptionKey, platform.Production, time.Time{}),
	}
	s, err := newSigner(keys, platform.Production)
	require.NoError(t, err)
	alone := func(k platform.PushKey) string {
		one, err := newSigner([]platform.PushKey{k}, k.Environment)
		require.NoError(t, err)
		_, got, err := one.sign("msg_1", now, []byte("body"), true)
		require.NoError(t, err)
		return got
	}
	_, got, err := s.sign("msg_1", now, []byte("body"), false)
	require.NoError(t, err)
	require.Equal(t, alone(keys[2])+" "+alone(keys[1]), got)
	_, got, err = s.sign("msg_1", now, []byte("body"), true)
	require.NoError(t, err)
	require.Equal(t, alone(keys[2])+" "+alone(keys[1])+" "+alone(keys[4]), got)

	last := got[strings.LastIndex(got, "v1a,")+4:]
	signature, err := base64.StdEncoding.DecodeString(last)
	require.NoError(t, err)
	public := ed25519.NewKeyFromSeed(testKey(5)).Public().(ed25519.PublicKey)
	require.True(t, ed25519.Verify(public, []byte("msg_1.1700000000.body"), signature))

	_, _, err = s.sign("msg_1", now.Add(-time.Hour), nil, false)
	require.NoError(t, err)
	none, err := newSigner(keys[:1], platform.Production)
	require.NoError(t, err)
	_, _, err = none.sign("msg_1", now, nil, true)
	require.ErrorIs(t, err, errNoSigningKey)
	_, err = newSigner([]platform.PushKey{{Environment: platform.Production, Kind: platform.SigningKey, Secret: platform.NewSecret([]byte("short"))}}, platform.Production)
	require.ErrorContains(t, err, "32 bytes")
	require.NotContains(t, err.Error(), "short")
}
