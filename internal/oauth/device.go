package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// How devices wait for a merchant's answer.
const (
	// DeviceLifetime is how long a merchant may take to answer.
	DeviceLifetime = 10 * time.Minute
	// PollInterval is how long a device waits between two questions; SlowDown is
	// by how much that grows each time it does not (RFC 8628 section 3.5).
	PollInterval = 5 * time.Second
	SlowDown     = 5 * time.Second
	// PollTolerance is how much too early a question may come: a device that
	// waits just long enough is not at fault when the network is quicker once.
	PollTolerance = time.Second
)

// userCodeTries is how many user codes are tried until one is free.
const userCodeTries = 5

// deviceParams are the parameters of the device authorization endpoint.
var deviceParams = []string{
	"client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "resource", "dpop_jkt",
}

// deviceReply is the answer of RFC 8628 section 3.2.
type deviceReply struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                int64  `json:"interval"`
}

// serveDevice gives a device the code that a merchant types elsewhere (RFC 8628
// section 3.1). Only apps that run on their user's device need that.
func (s *Server) serveDevice(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, deviceParams)
	if refused != nil {
		return nil, refused
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	if refused := mayUseDevice(app); refused != nil {
		return nil, refused
	}
	now := s.Now()
	d := &Device{App: app.Number, Environment: s.Environment, IssuedAt: now, ExpiresAt: now.Add(DeviceLifetime)}
	if d.Key, refused = s.checkThumbprint(p); refused != nil {
		return nil, refused
	}
	if d.Scopes, refused = s.scopesFor(app, p.get("scope")); refused != nil {
		return nil, refused
	}
	if d.Resources, refused = narrowResources(p.resources, s.Resources); refused != nil {
		return nil, refused
	}
	if refused := s.slowStarts(now, app, s.ClientIP(r)); refused != nil {
		return nil, refused
	}
	deviceCode, userCode, err := s.saveDevice(r.Context(), d)
	if err != nil {
		return nil, failed(err)
	}
	return &deviceReply{
		DeviceCode: deviceCode, UserCode: userCode, VerificationURI: s.Activation,
		VerificationURIComplete: s.Activation + "?" + url.Values{"user_code": {userCode}}.Encode(),
		ExpiresIn:               int64(DeviceLifetime / time.Second), Interval: int64(PollInterval / time.Second),
	}, nil
}

// mayUseDevice refuses apps that have a server to come back to.
func mayUseDevice(app *platform.App) *refusal {
	if public(app) {
		return nil
	}
	return refuse(unauthorizedClient, "the device flow is for apps of the mode client; use the authorization code flow")
}

// slowStarts bounds what one address can have stored in the name of an app that
// proves nothing.
func (s *Server) slowStarts(now time.Time, app *platform.App, address netip.Addr) *refusal {
	start := deviceStart(app.Key, address)
	if wait := s.Guard.take(now, start); wait > 0 {
		refused := refuse(tooManyDevices, "too many devices ask from this address; wait before the next")
		refused.retryAfter = wait
		return refused
	}
	return nil
}

// saveDevice makes the codes of a device and saves their hashes.
func (s *Server) saveDevice(ctx context.Context, d *Device) (deviceCode, userCode string, err error) {
	if deviceCode, err = s.newToken(devicePrefix); err != nil {
		return "", "", err
	}
	d.Hash = HashOf(deviceCode)
	for try := 1; ; try++ {
		if userCode, err = s.newUserCode(); err != nil {
			return "", "", err
		}
		d.UserCode = HashOf(userCode)
		err = s.Store.SaveDevice(ctx, d)
		if err == nil {
			return deviceCode, formatUserCode(userCode), nil
		}
		if !errors.Is(err, platform.ErrConflict) || try == userCodeTries {
			return "", "", err
		}
	}
}

// DeviceRequest is what a device asks a merchant for.
type DeviceRequest struct {
	App *platform.App
	// UserCode is the code as the device shows it: WDJB-MJHT.
	UserCode string
	// Scopes are the packages asked for, sorted; empty means the basic one alone.
	Scopes []string

	device *Device
}

// ErrUserCode means that no device waits with such a code: it is mistyped, was
// answered, or has expired.
var ErrUserCode = errors.New("no device waits with this code")

// DeviceRequest finds what the device asks for that shows the code, which the
// user typed (RFC 8628 section 3.3). Wrong codes are slowed down for each user
// and each address (section 5.1). The error is ErrUserCode, a *WaitError or a
// *PageError.
func (s *Server) DeviceRequest(ctx context.Context, typed, user string, address netip.Addr) (*DeviceRequest, error) {
	code, ok := parseUserCode(typed)
	if !ok {
		return nil, ErrUserCode
	}
	now, guess := s.Now(), userCodeGuess(user, address)
	if wait := s.Guard.take(now, guess); wait > 0 {
		return nil, &WaitError{wait}
	}
	d, err := s.Store.DeviceByUserCode(ctx, HashOf(code), s.Environment, now)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, ErrUserCode
	}
	s.Guard.giveBack(guess)
	if err != nil {
		return nil, failed(fmt.Errorf("looking for a device: %w", err)).page()
	}
	r := &DeviceRequest{UserCode: formatUserCode(code), device: d}
	if refused := s.checkDevice(ctx, r); refused != nil {
		return nil, refused.page()
	}
	return r, nil
}

// checkDevice checks whether the app may still have what the device asked for.
func (s *Server) checkDevice(ctx context.Context, r *DeviceRequest) (refused *refusal) {
	app, err := s.appByKey(ctx, r.device.AppKey)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		return refuse(invalidClient, "the app does not exist any more")
	case err != nil:
		return failed(fmt.Errorf("loading the app: %w", err))
	case app.Status != platform.Active:
		return refuse(unauthorizedClient, "the app is suspended")
	}
	r.App = app
	if refused := mayUseDevice(app); refused != nil {
		return refused
	}
	r.Scopes, refused = s.scopesFor(app, formatScope(r.device.Scopes))
	return refused
}

// ApproveDevice records that the user authorizes the app on the device. The
// request must have been found by DeviceRequest just before. The error is
// ErrUserCode where the device was answered meanwhile, or a *PageError.
func (s *Server) ApproveDevice(ctx context.Context, r *DeviceRequest, user string) error {
	if _, refused := s.activeUser(ctx, user); refused != nil {
		return refused.page()
	}
	family, err := s.newFamily()
	if err != nil {
		return failed(err).page()
	}
	r.device.Family = family
	return answered(s.Store.ApproveDevice(ctx, s.newGrant(r.App, r.Scopes, user), r.device))
}

// DenyDevice records that the user does not agree. The error is that of
// ApproveDevice.
func (s *Server) DenyDevice(ctx context.Context, r *DeviceRequest) error {
	return answered(s.Store.DenyDevice(ctx, r.device.Hash, s.Now()))
}

func answered(err error) error {
	if errors.Is(err, platform.ErrConflict) {
		return ErrUserCode
	}
	if err != nil {
		return failed(fmt.Errorf("answering a device: %w", err)).page()
	}
	return nil
}
