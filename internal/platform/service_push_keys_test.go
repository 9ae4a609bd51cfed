package platform_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestPushKeys(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	add := func(kind platform.PushKeyKind) (*platform.IssuedPushKey, error) {
		return f.AddPushKey(ctx, "cli:root", f.shop.Key, platform.PushKeyRequest{Kind: kind})
	}
	first, err := add(platform.SigningKey)
	require.NoError(t, err)
	second, err := add(platform.EncryptionKey)
	require.NoError(t, err)
	third, err := add(platform.Ed25519Key)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, []int{first.Number, second.Number, third.Number})
	require.Equal(t, f.shop.Key+".2", second.KeyID)

	// The secret is the key; the public half is what signatures verify with.
	keys, err := f.PushKeys(ctx, f.shop.ID)
	require.NoError(t, err)
	require.Len(t, keys, 3)
	raw := func(text, prefix string) []byte {
		rest, ok := strings.CutPrefix(text, prefix)
		require.True(t, ok, text)
		b, err := base64.StdEncoding.DecodeString(rest)
		require.NoError(t, err)
		return b
	}
	require.Equal(t, raw(first.Secret, "whsec_"), keys[0].Secret.Reveal())
	require.Equal(t, raw(second.Secret, "whek_"), keys[1].Secret.Reveal())
	require.Empty(t, third.Secret)
	require.Equal(t, third.PublicKey, keys[2].PublicKey)
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(keys[2].Secret.Reveal()), []byte("text"))
	require.True(t, ed25519.Verify(raw(third.PublicKey, "whpk_"), []byte("text"), signature))

	// No list and no audit entry has them.
	text, err := json.Marshal(keys)
	require.NoError(t, err)
	for _, e := range f.entries(t) {
		text = append(append(text, e.Before...), e.After...)
	}
	for _, secret := range []string{first.Secret[6:], second.Secret[5:], base64.StdEncoding.EncodeToString(keys[2].Secret.Reveal())} {
		require.NotContains(t, string(text), secret)
	}
	e := f.entries(t)[0]
	require.Equal(t, []string{"cli:root", "push_key.add", f.shop.ID}, []string{e.Actor, e.Action, e.Target})
	require.Equal(t, platform.ChangePush, f.changes[0].Kind)

	// Two of a kind are live at a time; the other environment counts apart.
	_, err = add(platform.SigningKey)
	require.NoError(t, err)
	_, err = add(platform.SigningKey)
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "revoke number 1 or 4 first")
	_, err = f.AddPushKey(ctx, "test", f.shop.ID, platform.PushKeyRequest{Environment: platform.Production, Kind: platform.SigningKey})
	require.NoError(t, err)

	for field, r := range map[string]platform.PushKeyRequest{"kind": {Kind: "rsa"}, "environment": {Kind: platform.SigningKey, Environment: "x"}} {
		_, err = f.AddPushKey(ctx, "test", f.shop.ID, r)
		requireField(t, err, field)
	}
	_, err = f.AddPushKey(ctx, "test", "ak_nobody", platform.PushKeyRequest{Kind: platform.SigningKey})
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.PushKeys(ctx, "ak_nobody")
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func TestRevokePushKey(t *testing.T) {
	f := newPushFixture(t)
	ctx := t.Context()
	sub, _, err := f.create("", platform.SubscriptionSettings{Asymmetric: new(true)})
	require.NoError(t, err)
	revoke := func(number int, after time.Duration) (*platform.PushKey, error) {
		return f.RevokePushKey(ctx, "test", f.shop.ID, number, after)
	}
	for number := 1; number <= 3; number++ {
		_, err = revoke(number, 0)
		require.ErrorIs(t, err, platform.ErrConflict)
		require.ErrorContains(t, err, "subscription "+sub.ID+" needs one: add another first")
	}

	// Rotation: another key, then the end of the first one after an overlap.
	_, err = f.AddPushKey(ctx, "test", f.shop.ID, platform.PushKeyRequest{Kind: platform.SigningKey})
	require.NoError(t, err)
	ended, err := revoke(1, time.Hour)
	require.NoError(t, err)
	require.Equal(t, f.now.Add(time.Hour).Truncate(time.Microsecond), ended.ExpiresAt)
	require.True(t, ended.Live(f.now))
	e := f.entries(t)[0]
	require.Equal(t, "push_key.revoke", e.Action)
	require.NotContains(t, string(e.Before), "expires_at")
	require.Contains(t, string(e.After), "expires_at")
	_, err = revoke(4, 0)
	require.ErrorIs(t, err, platform.ErrConflict, "the other one ends soon")
	again, err := revoke(1, 2*time.Hour)
	require.NoError(t, err)
	require.Equal(t, ended.ExpiresAt, again.ExpiresAt, "it is never prolonged")
	f.now = f.now.Add(time.Hour)
	_, err = revoke(1, 0)
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "ended at")

	_, err = revoke(9, 0)
	require.ErrorIs(t, err, platform.ErrNotFound)
	for _, after := range []time.Duration{-1, 91 * 24 * time.Hour} {
		_, err = revoke(4, after)
		requireField(t, err, "after")
	}

	// Without an asymmetric subscription nobody needs the Ed25519 key, and
	// without any nobody needs the others.
	_, _, err = f.UpdateSubscription(ctx, "test", sub.ID, platform.SubscriptionSettings{Asymmetric: new(false)})
	require.NoError(t, err)
	_, err = revoke(3, 0)
	require.NoError(t, err)
	require.NoError(t, f.DeleteSubscription(ctx, "test", sub.ID))
	_, err = revoke(4, 0)
	require.NoError(t, err)
	_, keys, err := f.create("", platform.SubscriptionSettings{})
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Equal(t, 5, keys[0].Number, "numbers go on: a kid never means two keys")
}
