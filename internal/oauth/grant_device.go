package oauth

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// deviceGrant is the grant type of RFC 8628 section 3.4.
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

const badDeviceCode = "the device code is unknown, used, or belongs to another app"

// pollDevice tells a device what the merchant has answered (RFC 8628 section
// 3.5), and gives it tokens once, when that was yes. A second time it revokes
// what the first was given.
func (s *Server) pollDevice(ctx context.Context, r *tokenRequest) (*issued, *refusal) {
	if refused := mayUseDevice(r.app); refused != nil {
		return nil, refused
	}
	d, refused := s.loadDevice(ctx, r)
	if refused != nil {
		return nil, refused
	}
	if d.State == DeviceApproved && !d.Redeemed && r.now.Before(d.ExpiresAt) {
		if refused := s.proveOrigin(ctx, r, d.origin()); refused != nil {
			return nil, refused
		}
	}
	err := s.Store.PollDevice(ctx, d, r.now)
	if errors.Is(err, platform.ErrNotFound) || errors.Is(err, ErrReplayed) {
		return nil, refuse(invalidGrant, badDeviceCode)
	}
	if err != nil {
		return nil, failed(fmt.Errorf("polling for a device: %w", err))
	}
	switch {
	case d.State == DeviceDenied:
		return nil, refuse(deviceDenied, "the merchant did not agree")
	case !r.now.Before(d.ExpiresAt):
		return nil, refuse(expiredToken, "the device code has expired; begin anew")
	case d.State == DevicePending && d.Hasty:
		return nil, refuse(slowDown, "ask less often: wait 5 seconds longer from now on")
	case d.State == DevicePending:
		return nil, refuse(authorizationPending, "the merchant has not answered yet")
	}
	// The merchant may have approved since the device was loaded.
	if refused := s.proveOrigin(ctx, r, d.origin()); refused != nil {
		return nil, refused
	}
	return s.firstTokens(ctx, r, d.origin(), d.IssuedAt.Add(RefreshTokenLifetime))
}

// origin is what the tokens have from the device.
func (d *Device) origin() Token {
	return Token{
		Family: d.Family, Grant: d.Grant, App: d.App, Environment: d.Environment,
		User: d.User, Scopes: d.Scopes, Resources: d.Resources,
	}
}

// loadDevice finds the device that asks. Another app learns nothing of it, and
// neither does who has not its key.
func (s *Server) loadDevice(ctx context.Context, r *tokenRequest) (*Device, *refusal) {
	value := r.get("device_code")
	if value == "" {
		return nil, refuse(invalidRequest, "device_code is missing")
	}
	if !looksLike(value, devicePrefix) {
		return nil, refuse(invalidGrant, badDeviceCode)
	}
	d, err := s.Store.Device(ctx, HashOf(value))
	if errors.Is(err, platform.ErrNotFound) {
		return nil, refuse(invalidGrant, badDeviceCode)
	}
	if err != nil {
		return nil, failed(fmt.Errorf("loading a device: %w", err))
	}
	if d.App != r.app.Number || d.Environment != s.Environment {
		return nil, refuse(invalidGrant, badDeviceCode)
	}
	return d, checkKey(d.Key, r.key)
}
