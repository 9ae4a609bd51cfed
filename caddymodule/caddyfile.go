package caddymodule

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("open_platform", parseGlobalOption)
}

func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option open_platform is given twice; put everything into one")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "open_platform", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option. Syntax:
//
//	open_platform {
//		storage          sqlite [<path>]
//		storage          postgres <dsn> {
//			max_conns <number>
//		}
//		redis            <url> {
//			accuracy exact|leased
//			nonces   shared|local
//			timeout  <duration>
//		}
//		on_redis_failure share|deny
//		master_key       <key> [<earlier key>...]
//		catalog          <file>          # repeatable
//		sandbox_app      <file> [<redirect URI>]
//		sandbox_merchant <file>
//		time_zone        <IANA name>
//		app_cache        <apps>
//		nonces           <nonces>
//		staleness        <duration>
//		audit_retention  <duration>
//		push [off] {
//			workers         <requests>
//			timeout         <duration>
//			lease           <duration>
//			schedule        <wait>...
//			disable_after   <duration>
//			allow           <network>...
//			egress          <address>
//			egress_ips      <address>...
//			client_certificate <file> <key file>
//			ca              <file>
//			source          <URI>
//			node            <name>
//			keep_messages   <duration>
//			keep_deliveries <duration>
//			keep_attempts   <duration>
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("open_platform takes no arguments, but '%s' is given; put options into a block", d.Val())
	}
	seen := map[string]bool{}
	for d.NextBlock(0) {
		option := d.Val()
		if seen[option] && option != "catalog" {
			return d.Errf("%s is given twice", option)
		}
		seen[option] = true
		if err := a.unmarshalOption(d, option); err != nil {
			return err
		}
	}
	if a.onRedisFailure == "" {
		return nil
	}
	if a.Redis == nil {
		return d.Err("on_redis_failure needs the option redis")
	}
	a.Redis.OnFailure = a.onRedisFailure
	return nil
}

var options = []string{
	"storage", "redis", "on_redis_failure", "master_key", "catalog", "sandbox_app", "sandbox_merchant", "time_zone",
	"app_cache", "nonces", "staleness", "audit_retention", "push",
}

func (a *App) unmarshalOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "storage":
		return a.unmarshalStorage(d)
	case "redis":
		return a.unmarshalRedis(d)
	case "on_redis_failure":
		a.onRedisFailure, err = choiceOf(d, redisFailures)
	case "master_key":
		if a.MasterKeys = d.RemainingArgs(); len(a.MasterKeys) == 0 {
			return d.Err("master_key needs a key, best as {file./run/secrets/master.key} or {env.MASTER_KEY}")
		}
	case "catalog":
		var file string
		if file, err = argumentOf(d, "an OpenAPI file"); err == nil {
			a.Catalogs = append(a.Catalogs, file)
		}
	case "sandbox_app":
		return a.unmarshalSandboxApp(d)
	case "sandbox_merchant":
		a.SandboxMerchant, err = argumentOf(d, "a file for login and password")
	case "time_zone":
		a.TimeZone, err = argumentOf(d, "an IANA name such as Asia/Shanghai")
	case "app_cache":
		a.AppCache, err = numberOf(d)
	case "nonces":
		a.Nonces, err = numberOf(d)
	case "staleness":
		a.Staleness, err = durationOf(d)
	case "audit_retention":
		a.AuditRetention, err = durationOf(d)
	case "push":
		return a.unmarshalPush(d)
	default:
		return d.Errf("open_platform has no option '%s'; it has %s", option, strings.Join(options, ", "))
	}
	return err
}

func (a *App) unmarshalSandboxApp(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Err("sandbox_app needs a file for its credentials, and may have a redirect URI: sandbox_app ./data/sandbox-app.json https://localhost/callback")
	}
	a.SandboxApp = args[0]
	if len(args) == 1 {
		return nil
	}
	if err := platform.CheckRedirectURI(args[1], platform.Web); err != nil {
		return d.WrapErr(err)
	}
	a.SandboxRedirectURI = args[1]
	return nil
}

func (a *App) unmarshalStorage(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Err("storage needs an engine and where it is: storage sqlite ./data/openplatform.db, or storage postgres {env.DATABASE_URL}")
	}
	a.Storage = &Storage{Engine: args[0]}
	switch args[0] {
	case engineSQLite:
		if len(args) == 2 {
			a.Storage.Path = args[1]
		}
		if d.NextBlock(1) {
			return d.Errf("storage sqlite has no options, but '%s' is given", d.Val())
		}
	case enginePostgres:
		if len(args) != 2 {
			return d.Err("storage postgres needs a database: storage postgres {env.DATABASE_URL}")
		}
		a.Storage.DSN = args[1]
		return block(d, "storage postgres", map[string]func() error{
			"max_conns": func() (err error) { a.Storage.MaxConns, err = numberOf(d); return err },
		})
	default:
		return d.Errf("storage engine '%s' is not known; write sqlite or postgres", args[0])
	}
	return nil
}

func (a *App) unmarshalRedis(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Err("redis needs one URL: redis {env.REDIS_URL}, or redis redis://127.0.0.1:6379")
	}
	r := &Redis{URL: args[0]}
	a.Redis = r
	return block(d, "redis", map[string]func() error{
		"accuracy": func() (err error) { r.Accuracy, err = choiceOf(d, redisAccuracies); return err },
		"nonces":   func() (err error) { r.Nonces, err = choiceOf(d, redisNonces); return err },
		"timeout":  func() (err error) { r.Timeout, err = durationOf(d); return err },
	})
}

func (a *App) unmarshalPush(d *caddyfile.Dispenser) error {
	p := new(Push)
	a.Push = p
	if args := d.RemainingArgs(); len(args) > 0 {
		if len(args) > 1 || args[0] != "off" {
			return d.Errf("push takes no argument but off, and '%s' is given", strings.Join(args, " "))
		}
		p.Off = true
	}
	duration := func(to *caddy.Duration) func() error {
		return func() (err error) { *to, err = durationOf(d); return err }
	}
	text := func(to *string, what string) func() error {
		return func() (err error) { *to, err = argumentOf(d, what); return err }
	}
	list := func(to *[]string, what string) func() error {
		return func() (err error) { *to, err = listOf(d, what); return err }
	}
	return block(d, "push", map[string]func() error{
		"workers":       func() (err error) { p.Workers, err = numberOf(d); return err },
		"timeout":       duration(&p.Timeout),
		"lease":         duration(&p.Lease),
		"schedule":      func() (err error) { p.Schedule, err = durationsOf(d); return err },
		"disable_after": duration(&p.DisableAfter),
		"allow":         list(&p.Allow, "networks such as 10.0.0.0/8"),
		"egress":        text(&p.Egress, "a local IP address"),
		"egress_ips":    list(&p.EgressIPs, "IP addresses"),
		"client_certificate": func() error {
			args := d.RemainingArgs()
			if len(args) != 2 {
				return d.Err("client_certificate needs two PEM files, the certificate and its key")
			}
			p.ClientCertificate, p.ClientKey = args[0], args[1]
			return nil
		},
		"ca":              text(&p.CA, "a PEM file"),
		"source":          text(&p.Source, "a URI such as https://open.example.com"),
		"node":            text(&p.Node, "a name"),
		"keep_messages":   duration(&p.KeepMessages),
		"keep_deliveries": duration(&p.KeepDeliveries),
		"keep_attempts":   duration(&p.KeepAttempts),
	})
}

// listOf reads an option that takes one value or more.
func listOf(d *caddyfile.Dispenser, what string) ([]string, error) {
	option := d.Val()
	values := d.RemainingArgs()
	if len(values) == 0 {
		return nil, d.Errf("%s needs %s", option, what)
	}
	return values, nil
}

// durationsOf reads an option that takes one duration or more.
func durationsOf(d *caddyfile.Dispenser) ([]caddy.Duration, error) {
	option := d.Val()
	values, err := listOf(d, "durations such as 5s 30s 2m")
	if err != nil {
		return nil, err
	}
	durations := make([]caddy.Duration, len(values))
	for i, text := range values {
		value, err := caddy.ParseDuration(text)
		if err != nil || value <= 0 {
			return nil, d.Errf("%s: '%s' is no duration; write one such as 10m", option, text)
		}
		durations[i] = caddy.Duration(value)
	}
	return durations, nil
}

// block reads the options in the block of an option.
func block(d *caddyfile.Dispenser, of string, options map[string]func() error) error {
	seen := map[string]bool{}
	for d.NextBlock(1) {
		name := d.Val()
		read := options[name]
		if read == nil {
			known := slices.Sorted(maps.Keys(options))
			return d.Errf("%s has no option '%s'; it has %s", of, name, strings.Join(known, ", "))
		}
		if seen[name] {
			return d.Errf("%s of %s is given twice", name, of)
		}
		seen[name] = true
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// choiceOf reads an option that takes one of few words.
func choiceOf(d *caddyfile.Dispenser, allowed []string) (string, error) {
	option := d.Val()
	words := strings.Join(allowed, " or ")
	value, err := argumentOf(d, words)
	if err == nil && !slices.Contains(allowed, value) {
		err = d.Errf("%s: '%s' is not known; write %s", option, value, words)
	}
	return value, err
}

// argumentOf reads the one argument of an option.
func argumentOf(d *caddyfile.Dispenser, what string) (string, error) {
	option := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.Errf("%s needs %s", option, what)
	}
	return args[0], nil
}

func numberOf(d *caddyfile.Dispenser) (int, error) {
	option := d.Val()
	text, err := argumentOf(d, "a number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, d.Errf("%s: '%s' is no number of 1 or more", option, text)
	}
	return n, nil
}

func durationOf(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	text, err := argumentOf(d, "a duration such as 10m")
	if err != nil {
		return 0, err
	}
	value, err := caddy.ParseDuration(text)
	if err != nil || value <= 0 {
		return 0, d.Errf("%s: '%s' is no duration; write one such as 10m", option, text)
	}
	return caddy.Duration(value), nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*App)(nil)
