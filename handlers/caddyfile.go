package handlers

import (
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

// Defaults of open_sign.
const (
	defaultBuffer  = 1 << 20
	defaultMaxBody = 64 << 20
)

// maxSkew keeps the time for which a nonce is remembered, twice as long, within
// the hour that every ledger promises.
const maxSkew = 25 * time.Minute

// dialectSet resolves the names of dialects; none means op1.
func dialectSet(names []string) ([]string, *signing.Set, error) {
	if len(names) == 0 {
		names = []string{signing.Op1}
	}
	set, err := signing.NewSet(names...)
	return names, set, err
}

// dialectNames reads a list of dialects and refuses unknown ones where they
// stand in the file.
func dialectNames(d *caddyfile.Dispenser) ([]string, error) {
	names, err := nameList(d)
	if err != nil {
		return nil, err
	}
	if _, err := signing.NewSet(names...); err != nil {
		return nil, d.WrapErr(err)
	}
	return names, nil
}

// nameList reads one or more names.
func nameList(d *caddyfile.Dispenser) ([]string, error) {
	option := d.Val()
	names := d.RemainingArgs()
	if len(names) == 0 {
		return nil, d.Errf("%s needs one name or more", option)
	}
	return names, nil
}

// sizeOf reads one size: "1MiB", "64MB", "4096".
func sizeOf(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return 0, d.Errf("%s needs one size, such as 1MiB", option)
	}
	text := args[0]
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 1<<40 {
		return 0, d.Errf("%s: '%s' is no size; write one such as 1MiB", option, text)
	}
	return int64(size), nil
}

// skewOf reads how far a signing time may lie off: "30s", "5m".
func skewOf(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return 0, d.Errf("%s needs one duration, such as 5m", option)
	}
	text := args[0]
	value, err := caddy.ParseDuration(text)
	if err != nil || value <= 0 || value > maxSkew {
		return 0, d.Errf("%s: '%s' is no duration between 0 and %v; write one such as 5m", option, text, maxSkew)
	}
	return caddy.Duration(value), nil
}

// flagOf reads an option that has no value.
func flagOf(d *caddyfile.Dispenser) (bool, error) {
	option := d.Val()
	if d.NextArg() {
		return false, d.Errf("%s takes no value, but '%s' is given", option, d.Val())
	}
	return true, nil
}

// environmentOf reads an environment, the last value of its option.
func environmentOf(d *caddyfile.Dispenser) (platform.Environment, error) {
	environment, err := platform.ParseEnvironment(d.Val())
	if err != nil {
		return "", d.WrapErr(err)
	}
	if d.NextArg() {
		return "", d.Errf("an environment is one value, sandbox or production, but '%s' is given too", d.Val())
	}
	return environment, nil
}

// once refuses an option that is given twice.
func once(d *caddyfile.Dispenser, seen map[string]bool) error {
	if seen[d.Val()] {
		return d.Errf("%s is given twice", d.Val())
	}
	seen[d.Val()] = true
	return nil
}

func unrecognized(d *caddyfile.Dispenser, directive string, known ...string) error {
	return d.Errf("%s has no option '%s'; it has %s", directive, d.Val(), strings.Join(known, ", "))
}

// bare reads a directive that takes neither arguments nor options.
func bare(h httpcaddyfile.Helper, directive string) error {
	h.Next()
	if h.NextArg() {
		return h.Errf("%s takes no arguments, but '%s' is given", directive, h.Val())
	}
	if h.NextBlock(0) {
		return h.Errf("%s takes no options, but '%s' is given", directive, h.Val())
	}
	return nil
}
