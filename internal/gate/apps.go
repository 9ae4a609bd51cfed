package gate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
	"unique"

	"github.com/gaissmai/bart"
	"github.com/maypok86/otter/v2"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

const (
	// loadTimeout bounds one load of an app, so that a slow store refuses
	// calls instead of piling them up.
	loadTimeout = 2 * time.Second
	// negativeTTL is how long an unknown appKey stays unknown without a look.
	negativeTTL = 10 * time.Second
	// notedReads is how many reads of the cache of apps there are for one that
	// it takes note of.
	notedReads = 16
	// fewPrefixes is up to how many prefixes a loop beats a tree.
	fewPrefixes = 8
)

// app is an app made ready for checking calls. It is immutable.
//
// Most calls find their app outside of the processor's caches, where a look at
// another place of the memory costs as much as a hundred instructions. So what
// most apps have little of lies in the app itself, in lists and not in maps, and
// text that many apps have in common is kept once: two strings that are the same
// place are compared without a look at it.
type app struct {
	*platform.App
	active bool // its Status
	keys   []dialectKeys
	ips    addresses
	groups []string
	// packages are those that it may use.
	packages []grant

	// near is the room for the first of each.
	near struct {
		dialects [1]dialectKeys
		keys     [2]*signing.Key
		about    [2]credential
		prefixes [2]netip.Prefix
		packages [2]grant
	}
}

// dialectKeys are the keys of one dialect; keys[i] is described by about[i].
type dialectKeys struct {
	dialect string
	keys    []*signing.Key
	about   []credential
}

// credential is what a key was made of.
type credential struct {
	*platform.Credential
	// environment is the constant that its Environment is equal to.
	environment platform.Environment
}

// grant is a permission package, and for how long the app has it.
type grant struct {
	packageName unique.Handle[string]
	period      platform.Period
}

// keysOf returns the keys of a dialect; nil where there are none.
func (a *app) keysOf(dialect string) *dialectKeys {
	for i := range a.keys {
		if a.keys[i].dialect == dialect {
			return &a.keys[i]
		}
	}
	return nil
}

// period is for how long the app has a package.
func (a *app) period(name unique.Handle[string]) (period platform.Period, granted bool) {
	for i := range a.packages {
		if a.packages[i].packageName == name {
			return a.packages[i].period, true
		}
	}
	return platform.Period{}, false
}

// live returns the keys that are accepted at now. It copies only when one has
// ended, which lasts until the app is loaded anew.
func (d *dialectKeys) live(now time.Time) dialectKeys {
	for i := range d.about {
		if !d.about[i].Live(now) {
			out := dialectKeys{dialect: d.dialect}
			for j := range d.about {
				if d.about[j].Live(now) {
					out.keys = append(out.keys, d.keys[j])
					out.about = append(out.about, d.about[j])
				}
			}
			return out
		}
	}
	return *d
}

func compileApp(a *platform.App) (*app, error) {
	c := &app{App: a, active: a.Status == platform.Active}
	c.keys, c.packages = c.near.dialects[:0], c.near.packages[:0]
	methods := make(map[string]string, len(a.Dialects))
	for _, d := range a.Dialects {
		methods[d.Dialect] = d.Method
	}
	for i := range a.Credentials {
		cred := &a.Credentials[i]
		method, granted := methods[cred.Dialect]
		if cred.Dialect != signing.Op1 && !granted {
			continue
		}
		if err := c.addKey(cred, method); err != nil {
			return nil, fmt.Errorf("app %s: credential %d: %w", a.ID, cred.Number, err)
		}
	}
	prefixes := c.near.prefixes[:0]
	for _, r := range a.IPs {
		if r.Group != "" {
			c.groups = append(c.groups, r.Group)
		} else {
			prefixes = append(prefixes, r.Prefix)
		}
	}
	c.ips = newAddresses(prefixes)
	for _, p := range a.Packages {
		c.packages = append(c.packages, grant{unique.Make(p.Package), p.Period})
	}
	return c, nil
}

func (a *app) addKey(cred *platform.Credential, method string) (err error) {
	var key *signing.Key
	if cred.Kind == platform.PublicKey {
		key, err = signing.NewPublicKey(cred.Number, []byte(cred.PublicKeyPEM))
	} else {
		key, err = signing.NewSecretKey(cred.Dialect, method, cred.Number, cred.Secret.Reveal())
	}
	if err != nil {
		return err
	}
	environment, err := platform.ParseEnvironment(string(cred.Environment))
	if err != nil {
		return err
	}
	d := a.keysOf(cred.Dialect)
	if d == nil {
		d = a.addDialect(cred.Dialect)
	}
	d.keys, d.about = append(d.keys, key), append(d.about, credential{cred, environment})
	return nil
}

func (a *app) addDialect(name string) *dialectKeys {
	names := signing.Names()
	if i := slices.Index(names, name); i >= 0 {
		name = names[i] // the constant, which claims have too
	}
	d := dialectKeys{dialect: name}
	if len(a.keys) == 0 {
		d.keys, d.about = a.near.keys[:0], a.near.about[:0]
	}
	a.keys = append(a.keys, d)
	return &a.keys[len(a.keys)-1]
}

// addresses is a set of addresses.
type addresses struct {
	few  []netip.Prefix
	many *bart.Lite
}

func newAddresses(prefixes []netip.Prefix) addresses {
	if len(prefixes) <= fewPrefixes {
		return addresses{few: prefixes}
	}
	t := new(bart.Lite)
	for _, p := range prefixes {
		t.Insert(p)
	}
	return addresses{many: t}
}

func (a *addresses) contains(ip netip.Addr) bool {
	for _, p := range a.few {
		if p.Contains(ip) {
			return true
		}
	}
	return a.many != nil && a.many.Contains(ip)
}

func (a *addresses) empty() bool { return len(a.few) == 0 && a.many == nil }

// appCache keeps the apps that call. An unknown appKey is kept as nil for a
// while, so that guessing keys does not become load on the store.
type appCache struct {
	store     platform.Reader
	cache     *otter.Cache[string, *app]
	staleness atomic.Int64
	loader    otter.Loader[string, *app]
}

func newAppCache(store platform.Reader, size int, staleness time.Duration) (*appCache, error) {
	c := &appCache{store: store}
	c.staleness.Store(int64(staleness))
	c.loader = otter.LoaderFunc[string, *app](c.load)
	cache, err := otter.New(&otter.Options[string, *app]{
		MaximumSize: size,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, *app]) time.Duration {
			if e.Value == nil {
				return negativeTTL
			}
			return time.Duration(c.staleness.Load())
		}),
		// An app is looked at again long before it goes stale; while the store
		// is down the look fails and the entry serves on. Apps that were loaded
		// together are not looked at together.
		RefreshCalculator: otter.RefreshWritingFunc(func(otter.Entry[string, *app]) time.Duration {
			staleness := time.Duration(c.staleness.Load())
			return staleness/4 + rand.N(max(staleness/2, 1)) //nolint:gosec // G404: any spread will do
		}),
		Logger: &otter.NoopLogger{},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of apps: %w", err)
	}
	c.cache = cache
	return c, nil
}

func (c *appCache) load(ctx context.Context, appKey string) (*app, error) {
	// The load serves every call that waits for the app, so it must not end
	// with the call that happened to ask first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	a, err := c.store.AppByKey(ctx, appKey)
	if errors.Is(err, platform.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return compileApp(a)
}

// get returns the app, or nil when there is none of that key.
func (c *appCache) get(ctx context.Context, appKey string) (*app, error) {
	// The cache takes note of every read, which costs it more than the read
	// itself. One in a few is enough to know the apps that call often.
	if e, ok := c.cache.GetEntryQuietly(appKey); ok && e.SnapshotAtNano < e.RefreshableAtNano && rand.Uint32()%notedReads != 0 { //nolint:gosec // G404: any sample will do
		return e.Value, nil
	}
	return c.cache.Get(ctx, appKey, c.loader)
}

func (c *appCache) resize(size int, staleness time.Duration) {
	c.staleness.Store(int64(staleness))
	c.cache.SetMaximum(uint64(size))
}

func (c *appCache) close() { c.cache.StopAllGoroutines() }
