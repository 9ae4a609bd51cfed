package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// planName is the plan of all apps.
const planName = "bench"

// whitelist is every app's: some prefixes that do not match before the one
// that does.
var whitelist = []platform.IPRule{
	{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
	{Prefix: netip.MustParsePrefix("198.51.100.17/32")},
	{Prefix: netip.MustParsePrefix("2001:db8::/32")},
	{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
}

// appKey and secret follow from an app's number, so that the load generator
// needs no list of them.
func appKey(n int) string { return fmt.Sprintf("ak_%020d", n) }

func secret(n int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "gatebench %d", n))
	return []byte("sk_" + hex.EncodeToString(sum[:]))
}

// apps yields the apps 1 to n.
func apps(n int, packages []platform.PackageGrant, now time.Time) iter.Seq[platform.App] {
	return func(yield func(platform.App) bool) {
		for i := 1; i <= n; i++ {
			app := platform.App{
				ID: fmt.Sprintf("app_%020d", i), Key: appKey(i), Name: fmt.Sprintf("bench %d", i),
				Kind: platform.Merchant, Mode: platform.Web, Status: platform.Active, Plan: planName,
				IPs: whitelist, Packages: packages,
				Credentials: []platform.Credential{{
					Number: 1, Environment: platform.Production, Kind: platform.SharedSecret,
					Dialect: "op1", Secret: platform.NewSecret(secret(i)), CreatedAt: now,
				}},
				CreatedAt: now, UpdatedAt: now,
			}
			if !yield(app) {
				return
			}
		}
	}
}

// forgers sign for the same apps as callers do, with a secret that is none of
// theirs.
func forgers(callers []caller) ([]caller, error) {
	key, err := signing.NewSigningSecret("op1", "", secret(0)) // the apps begin at 1
	if err != nil {
		return nil, fmt.Errorf("making a wrong key: %w", err)
	}
	out := make([]caller, len(callers))
	for i := range callers {
		out[i] = caller{appKey: callers[i].appKey, key: key}
	}
	return out, nil
}

// activeCallers makes the keys of the active apps among n, spread evenly.
func activeCallers(n, active int) ([]caller, error) {
	active = min(n, active)
	callers := make([]caller, active)
	for i := range callers {
		number := i*(n/active) + 1
		key, err := signing.NewSigningSecret("op1", "", secret(number))
		if err != nil {
			return nil, fmt.Errorf("making the key of app %d: %w", number, err)
		}
		callers[i] = caller{appKey: appKey(number), key: key}
	}
	return callers, nil
}
