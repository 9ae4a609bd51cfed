package oauth_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// native is an app without a browser and without a secret, as an unmodified
// client has it.
func (w *world) native(name string) *oauth2.Config {
	w.t.Helper()
	app, _, err := w.service.CreateApp(w.t.Context(), "test", platform.NewApp{
		Name: name, Kind: platform.ISV, Mode: platform.Client, Environment: platform.Production, Packages: []string{"trade", "logistics"},
	})
	require.NoError(w.t, err)
	return &oauth2.Config{ClientID: app.Key, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: w.site.URL + "/oauth/device", TokenURL: w.site.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams,
	}}
}

func (w *world) clientContext() context.Context {
	return context.WithValue(w.t.Context(), oauth2.HTTPClient, w.site.Client())
}

// device has the app begin to wait on a device.
func (w *world) device(c *oauth2.Config) *oauth2.DeviceAuthResponse {
	w.t.Helper()
	d, err := c.DeviceAuth(w.clientContext())
	require.NoError(w.t, err)
	return d
}

// poll asks once.
func (w *world) poll(c *oauth2.Config, d *oauth2.DeviceAuthResponse) answer {
	w.t.Helper()
	return w.browser().do(http.MethodPost, w.site.URL+"/oauth/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {c.ClientID}, "device_code": {d.DeviceCode},
	})
}

const activatePath = "/oauth/activate"

// TestDevice goes the whole way with an unmodified client: the device waits, the
// merchant types its code, sees who asks, and agrees.
func TestDevice(t *testing.T) {
	w := newWorld(t, "open_oauth")
	c := w.native("仓库扫码枪")
	d := w.device(c)
	require.Equal(t, w.site.URL+activatePath, d.VerificationURI)
	require.Contains(t, w.poll(c, d).body, "authorization_pending")

	b := w.browser()
	login := b.get(d.VerificationURI)
	require.Contains(t, login.body, "Log in to connect a device")
	typing := b.logIn(login)
	require.Equal(t, activatePath, typing.Request.URL.Path)
	require.Contains(t, typing.body, "小明数码旗舰店")
	wrong := b.get(d.VerificationURI + "?user_code=bbbb-bbbb")
	require.Equal(t, http.StatusBadRequest, wrong.StatusCode)
	require.Contains(t, wrong.body, "No device waits with this code")
	require.Contains(t, wrong.body, `value="bbbb-bbbb"`)

	consent := b.get(d.VerificationURI + "?user_code=" + strings.ToLower(strings.ReplaceAll(d.UserCode, "-", "+")))
	require.Equal(t, http.StatusOK, consent.StatusCode, consent.body)
	for _, said := range []string{"仓库扫码枪", "App of a software vendor", d.UserCode, "Does the device in front of you show this code", "交易管理", "小明数码旗舰店", "Valid until"} {
		require.Contains(t, consent.body, said)
	}
	done := b.submit(consent, activatePath, "decision", "approve")
	require.Equal(t, http.StatusOK, done.StatusCode)
	require.Contains(t, done.body, "The device is connected")
	require.Contains(t, b.get(w.grantsPage()).body, "仓库扫码枪")

	ctx, cancel := context.WithTimeout(w.clientContext(), time.Minute)
	defer cancel()
	d.Interval = 1 // the answer is there: an early question gets it
	token, err := c.DeviceAccessToken(ctx, d)
	require.NoError(t, err)
	require.NotEmpty(t, token.RefreshToken)
	require.Contains(t, w.poll(c, d).body, "invalid_grant")

	require.Equal(t, http.StatusBadRequest, b.submit(consent, activatePath, "decision", "approve").StatusCode, "it was answered")
}

// The code in the address leads to the question, and never past it.
func TestDeviceIsAlwaysAsked(t *testing.T) {
	w := newWorld(t, "open_oauth")
	c := w.native("Scanner")
	b := w.browser()
	for i := range 2 {
		d := w.device(c)
		page := b.get(d.VerificationURIComplete)
		if i == 0 {
			page = b.logIn(page)
			require.Equal(t, d.VerificationURIComplete, page.Request.URL.String(), "after the log-in the code need not be typed")
		}
		require.Equal(t, http.StatusOK, page.StatusCode)
		require.Contains(t, w.poll(c, d).body, "authorization_pending")
		require.Contains(t, b.submit(page, activatePath, "decision", "approve").body, "connected")
	}
	d := w.device(c)
	require.Contains(t, b.submit(b.get(d.VerificationURIComplete), activatePath, "decision", "deny").body, "not connected")
	require.Contains(t, w.poll(c, d).body, "access_denied")
}

// TestDeviceForms: what decides comes from our own page, given to this browser,
// for this device.
func TestDeviceForms(t *testing.T) {
	w := newWorld(t, "open_oauth")
	c := w.native("Scanner")
	d := w.device(c)
	b, other := w.browser(), w.browser()
	consent := b.logIn(b.get(d.VerificationURIComplete))
	others := other.logIn(other.get(d.VerificationURIComplete))
	to, fields := consent.form(t, activatePath)
	_, foreign := others.form(t, activatePath)
	_, logout := consent.form(t, "/oauth/logout")
	address, _ := w.start()
	_, authorize := b.get(address).form(t, "/oauth/authorize")
	for name, form := range map[string]string{
		"none": "", "made up": "aaaa.bbbb", "another session's": foreign.Get("form"), "another form's": logout.Get("form"), "that of an app": authorize.Get("form"),
	} {
		sent := b.do(http.MethodPost, to, url.Values{"form": {form}, "decision": {"approve"}})
		require.Equal(t, http.StatusForbidden, sent.StatusCode, name)
	}
	b.header.Set("Sec-Fetch-Site", "cross-site")
	fields.Set("decision", "approve")
	require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, to, fields).StatusCode)
	b.header.Del("Sec-Fetch-Site")
	require.Contains(t, w.poll(c, d).body, "authorization_pending")
	fields.Set("decision", "perhaps")
	require.Equal(t, http.StatusBadRequest, b.do(http.MethodPost, to, fields).StatusCode)
	fields.Set("decision", "approve")
	require.Equal(t, http.StatusOK, b.do(http.MethodPost, to, fields).StatusCode)
}

// TestDeviceCodeGuessing is answered by a wait in the end, and needs a log-in.
func TestDeviceCodeGuessing(t *testing.T) {
	w := newWorld(t, "open_oauth")
	c := w.native("Scanner")
	d := w.device(c)
	b := w.browser()
	wrong := w.site.URL + activatePath + "?user_code=BBBB-BBBB"
	for range 20 {
		require.Equal(t, http.StatusOK, b.get(wrong).StatusCode, "it asks who it is")
	}
	page := b.logIn(b.get(wrong))
	for range 9 {
		require.Equal(t, http.StatusBadRequest, page.StatusCode)
		page = b.get(wrong)
	}
	page = b.get(d.VerificationURIComplete)
	require.Equal(t, http.StatusTooManyRequests, page.StatusCode)
	require.NotEmpty(t, page.Header.Get("Retry-After"))
	require.NotContains(t, page.body, "Scanner")
}

// TestDeviceWithOutsidePassport: whoever says who the merchant is, the page asks.
func TestDeviceWithOutsidePassport(t *testing.T) {
	w := newWorld(t, `
	@alice header X-Test alice
	vars @alice shop shop-4711
	open_oauth {
		passport user {http.vars.shop}
	}`)
	c := w.native("Scanner")
	d := w.device(c)
	b := w.browser()
	require.Equal(t, http.StatusForbidden, b.get(d.VerificationURIComplete).StatusCode)
	b.header.Set("X-Test", "alice")
	consent := b.get(d.VerificationURIComplete)
	require.Contains(t, consent.body, "shop-4711")
	require.Contains(t, b.submit(consent, activatePath, "decision", "approve").body, "connected")
	require.Contains(t, w.poll(c, d).body, "access_token")
}
