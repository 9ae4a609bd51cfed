package oauth_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/internal/testserver"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// device has a device begin to wait.
func (f *fixture) device(app *platform.App, pairs ...string) reply {
	f.t.Helper()
	return f.serve(f.DeviceHandler(), request("/oauth/device", f.as(app, pairs...)))
}

// poll has the device ask.
func (f *fixture) poll(app *platform.App, device reply) reply {
	f.t.Helper()
	return f.token(app, "grant_type", deviceGrant, "device_code", device.str("device_code"))
}

// asked is what the merchant is asked who types the device's code.
func (f *fixture) asked(device reply) *oauth.DeviceRequest {
	f.t.Helper()
	r, err := f.DeviceRequest(f.t.Context(), device.str("user_code"), f.user.ID, here)
	require.NoError(f.t, err)
	return r
}

func (f *fixture) approve(device reply) {
	f.t.Helper()
	require.NoError(f.t, f.ApproveDevice(f.t.Context(), f.asked(device), f.user.ID))
}

func TestDeviceFlow(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native, "scope", "trade")
	require.Equal(t, http.StatusOK, d.Code, d.Body)
	require.Equal(t, "no-store", d.Header().Get("Cache-Control"))
	require.Regexp(t, `^dc_[\w-]{43}$`, d.str("device_code"))
	require.Regexp(t, `^[B-Z]{4}-[B-Z]{4}$`, d.str("user_code"))
	require.Equal(t, issuer+"/oauth/activate", d.str("verification_uri"))
	require.Equal(t, issuer+"/oauth/activate?user_code="+d.str("user_code"), d.str("verification_uri_complete"))
	require.Equal(t, 600, d.num("expires_in"))
	require.Equal(t, 5, d.num("interval"))
	require.Len(t, d.body, 6)
	other := f.device(f.native)
	require.NotEqual(t, d.str("user_code"), other.str("user_code"))

	requireError(t, f.poll(f.native, d), 400, "authorization_pending")
	requireError(t, f.poll(f.native, d), 400, "slow_down")
	requireError(t, f.poll(f.native, other), 400, "authorization_pending")
	f.pass(9 * time.Second)
	requireError(t, f.poll(f.native, d), 400, "authorization_pending")

	r := f.asked(d)
	require.Equal(t, f.native.ID, r.App.ID)
	require.Equal(t, d.str("user_code"), r.UserCode)
	require.Equal(t, []string{"trade"}, r.Scopes)
	require.NoError(t, f.ApproveDevice(t.Context(), r, f.user.ID))

	tokens := f.poll(f.native, d) // although it is early: the answer is there
	require.Equal(t, http.StatusOK, tokens.Code, tokens.Body)
	require.Equal(t, "Bearer", tokens.str("token_type"))
	require.Equal(t, 36000, tokens.num("expires_in"))
	require.Equal(t, "trade", tokens.str("scope"))
	require.Len(t, tokens.body, 5)
	user, err := f.verifier.Verify(t.Context(), tokens.str("access_token"), f.native, platform.Production, "trade")
	require.NoError(t, err)
	require.Equal(t, f.user.ID, user.ID)

	// Refresh tokens rotate, as for all apps of the mode client.
	next := f.refresh(f.native, tokens.str("refresh_token"))
	require.Equal(t, http.StatusOK, next.Code, next.Body)
	require.NotEqual(t, tokens.str("refresh_token"), next.str("refresh_token"))
	requireError(t, f.refresh(f.native, tokens.str("refresh_token")), 400, "invalid_grant")
	requireError(t, f.refresh(f.native, next.str("refresh_token")), 400, "invalid_grant")

	requireError(t, f.poll(f.native, other), 400, "authorization_pending")
}

func TestDeviceDenied(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	require.NoError(t, f.DenyDevice(t.Context(), f.asked(d)))
	for range 2 {
		requireError(t, f.poll(f.native, d), 400, "access_denied")
	}
	_, err := f.store.GrantOf(t.Context(), f.user.ID, f.native.Number, platform.Production, f.clock())
	require.ErrorIs(t, err, platform.ErrNotFound)
}

// A merchant who takes too long, or a device that does, begins anew.
func TestDeviceExpires(t *testing.T) {
	f := newFixture(t)
	unanswered, answered := f.device(f.native), f.device(f.native)
	late := f.asked(unanswered)
	f.pass(oauth.DeviceLifetime - time.Second)
	f.approve(answered)
	requireError(t, f.poll(f.native, unanswered), 400, "authorization_pending")
	f.pass(time.Second)
	for range 2 {
		requireError(t, f.poll(f.native, unanswered), 400, "expired_token")
		requireError(t, f.poll(f.native, answered), 400, "expired_token")
	}
	_, err := f.DeviceRequest(t.Context(), unanswered.str("user_code"), f.user.ID, here)
	require.ErrorIs(t, err, oauth.ErrUserCode)
	require.ErrorIs(t, f.ApproveDevice(t.Context(), late, f.user.ID), oauth.ErrUserCode)
	require.ErrorIs(t, f.DenyDevice(t.Context(), late), oauth.ErrUserCode)
}

// The device flow is for apps of the mode client alone.
func TestDeviceNeedsModeClient(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	hosted := f.newApp(platform.Hosted, callback)
	for _, app := range []*platform.App{f.web, hosted} {
		for _, r := range []reply{f.device(app), f.poll(app, d)} {
			requireError(t, r, 400, "unauthorized_client")
			require.Contains(t, r.str("error_description"), "mode client")
		}
	}
}

// A device code is worth nothing to another app, and none to who lacks its key.
func TestDeviceIsBound(t *testing.T) {
	f := newFixture(t)
	second := f.newApp(platform.Client, loopback)
	p, thief := f.prover(), f.prover()
	d := f.device(f.native, "dpop_jkt", p.thumbprint())
	f.approve(d)
	requireError(t, f.poll(second, d), 400, "invalid_grant")
	requireError(t, f.poll(f.native, d), 400, "invalid_dpop_proof")
	pairs := []string{"grant_type", deviceGrant, "device_code", d.str("device_code")}
	requireError(t, f.prove(f.native, []string{thief.proof()}, pairs...), 400, "invalid_grant")
	tokens := f.prove(f.native, []string{p.proof()}, pairs...)
	require.Equal(t, http.StatusOK, tokens.Code, "nobody else has spent it: %s", tokens.Body)
	require.Equal(t, "DPoP", tokens.str("token_type"))
	refresh := []string{"grant_type", "refresh_token", "refresh_token", tokens.str("refresh_token")}
	requireError(t, f.prove(f.native, []string{thief.proof()}, refresh...), 400, "invalid_grant")
	require.Equal(t, http.StatusOK, f.prove(f.native, []string{p.proof()}, refresh...).Code)

	// A key that comes with the question alone binds the tokens too.
	free := f.device(f.native)
	f.approve(free)
	tokens = f.prove(f.native, []string{p.proof()}, "grant_type", deviceGrant, "device_code", free.str("device_code"))
	require.Equal(t, "DPoP", tokens.str("token_type"), tokens.Body)
	requireError(t, f.device(f.native, "dpop_jkt", "x"), 400, "invalid_request")
}

func TestDeviceRequestIsChecked(t *testing.T) {
	f := newFixture(t)
	requireError(t, f.device(f.native, "scope", "refund"), 400, "invalid_scope")
	requireError(t, f.device(f.native, "resource", "https://elsewhere.example"), 400, "invalid_target")
	v := f.as(f.native)
	v["scope"] = []string{"trade", "item"}
	requireError(t, f.serve(f.DeviceHandler(), request("/oauth/device", v)), 400, "invalid_request")
	requireError(t, f.serve(f.DeviceHandler(), request("/oauth/device", url.Values{"client_id": {"ak_nobody"}})), 401, "invalid_client")
	get := request("/oauth/device", f.as(f.native))
	get.Method = http.MethodGet
	requireError(t, f.serve(f.DeviceHandler(), get), 405, "invalid_request")
	plain := request("/oauth/device", f.as(f.native))
	plain.TLS = nil
	requireError(t, f.serve(f.DeviceHandler(), plain), 400, "invalid_request")

	requireError(t, f.token(f.native, "grant_type", deviceGrant), 400, "invalid_request")
	for _, code := range []string{"x", "dc_" + strings.Repeat("A", 43), strings.Repeat("d", 9000)} {
		requireError(t, f.token(f.native, "grant_type", deviceGrant, "device_code", code), 400, "invalid_grant")
	}
	inURL := request("/oauth/token", f.as(f.native, "grant_type", deviceGrant))
	inURL.URL.RawQuery = "device_code=dc_x"
	requireError(t, f.serve(f.TokenHandler(), inURL), 400, "invalid_request")

	all := f.device(f.native)
	require.Equal(t, []string{"item", "trade"}, f.asked(all).Scopes, "without a scope it asks for all that the app has")
	reports := f.device(f.native, "resource", "https://reports.example.com", "scope", "trade")
	f.approve(reports)
	tokens := f.poll(f.native, reports)
	require.Equal(t, http.StatusOK, tokens.Code, tokens.Body)
	_, err := f.verifier.Verify(t.Context(), tokens.str("access_token"), f.native, platform.Production, "trade")
	require.Error(t, err, "the token is for another resource")
}

// What has changed since the device asked counts when the merchant answers.
func TestDeviceAppMayChange(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	code := func(err error) string {
		var page *oauth.PageError
		require.ErrorAs(t, err, &page)
		return page.Code
	}
	d := f.device(f.native, "scope", "trade")
	request := f.asked(d)
	_, err := f.service.RevokePackage(ctx, "test", f.native.ID, "trade")
	require.NoError(t, err)
	_, err = f.DeviceRequest(ctx, d.str("user_code"), f.user.ID, here)
	require.Equal(t, "invalid_scope", code(err))
	_, err = f.service.SuspendApp(ctx, "test", f.native.ID)
	require.NoError(t, err)
	_, err = f.DeviceRequest(ctx, d.str("user_code"), f.user.ID, here)
	require.Equal(t, "unauthorized_client", code(err))
	requireError(t, f.poll(f.native, d), 401, "invalid_client")
	_, err = f.service.DisableUser(ctx, "test", f.user.ID)
	require.NoError(t, err)
	require.Equal(t, "invalid_grant", code(f.ApproveDevice(ctx, request, f.user.ID)))
	require.NoError(t, f.service.DeleteApp(ctx, "test", f.native.ID))
	_, err = f.DeviceRequest(ctx, d.str("user_code"), f.user.ID, here)
	require.ErrorIs(t, err, oauth.ErrUserCode)
}

func TestDeviceGrantRevoked(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	f.approve(d)
	grant, err := f.store.GrantOf(t.Context(), f.user.ID, f.native.Number, platform.Production, f.clock())
	require.NoError(t, err)
	_, err = f.service.RevokeGrant(t.Context(), "test", grant.ID)
	require.NoError(t, err)
	requireError(t, f.poll(f.native, d), 400, "invalid_grant")
}

// The codes themselves are not stored.
func TestDeviceCodesAreHashed(t *testing.T) {
	f := newFixture(t)
	d := f.device(f.native)
	code := strings.ReplaceAll(d.str("user_code"), "-", "")
	found, err := f.store.Device(t.Context(), oauth.HashOf(d.str("device_code")))
	require.NoError(t, err)
	require.Equal(t, oauth.HashOf(code), found.UserCode)
}

// Without a page where merchants answer there is no device flow, and nothing
// says that there is.
func TestNoDeviceFlow(t *testing.T) {
	f := newFixture(t)
	f.Activation = ""
	require.Equal(t, http.StatusNotFound, serveRaw(f.DeviceHandler(), request("/oauth/device", f.as(f.native))).Code)
	requireError(t, f.token(f.native, "grant_type", deviceGrant, "device_code", "dc_x"), 400, "unsupported_grant_type")
	w := serveRaw(f.MetadataHandler(), getRequest("/.well-known/oauth-authorization-server"))
	require.NotContains(t, w.Body.String(), "device")
}

// Of twenty questions at once one gets the tokens, and these are revoked, as the
// others show a replay; on two nodes too.
func TestDeviceIsRedeemedOnce(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		f := newFixture(t)
		f.requireRedeemedOnce(f.Server)
	})
	t.Run("two nodes on postgres", func(t *testing.T) {
		dsn := testserver.NewPostgres(t).Database(t)
		open := func(keys *store.Keyring, o store.Options) (*store.Store, error) {
			return store.OpenPostgres(context.WithoutCancel(t.Context()), dsn, keys, o)
		}
		f := newFixtureOn(t, open)
		keys, err := store.NewKeyring(make([]byte, 32))
		require.NoError(t, err)
		second, err := open(keys, store.Options{Now: f.clock})
		require.NoError(t, err)
		defer func() { require.NoError(t, second.Close()) }()
		f.requireRedeemedOnce(f.Server, f.node(second, nil))
	})
}

func (f *fixture) requireRedeemedOnce(nodes ...*oauth.Server) {
	t := f.t
	t.Helper()
	for range 25 {
		f.pass(10 * time.Second) // for the next device from here
		d := f.device(f.native)
		f.approve(d)
		replies := make([]reply, 20)
		var wg sync.WaitGroup
		for i := range replies {
			wg.Go(func() {
				v := f.as(f.native, "grant_type", deviceGrant, "device_code", d.str("device_code"))
				replies[i] = f.serve(nodes[i%len(nodes)].TokenHandler(), request("/oauth/token", v))
			})
		}
		wg.Wait()
		got := 0
		for _, r := range replies {
			if r.Code != http.StatusOK {
				requireError(t, r, 400, "invalid_grant")
				continue
			}
			got++
			requireError(t, f.refresh(f.native, r.str("refresh_token")), 400, "invalid_grant")
		}
		require.LessOrEqual(t, got, 1)
	}
}
