package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unique"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
	"github.com/caddy-openplatform/openplatform/internal/store"
)

// inBubble runs a test of the cache under a clock that stands still until
// everybody waits.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture), apps ...*platform.App) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, platform.Catalog{}, apps...)
		f.open(Options{Now: time.Now})
		test(t, f)
		f.Close()
		synctest.Wait()
	})
}

// pass lets time pass on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

// lookUp is the first stage: which app does the call claim to come from.
func (f *fixture) lookUp(key string) *Call {
	f.t.Helper()
	f.now = time.Now()
	c := newCall()
	r := rule(f.t, platform.Production)
	require.NoError(f.t, f.Identify(context.Background(), c, f.sign(signer{key: key}, "GET", "/v1/a", ""), r.Dialects))
	return c
}

// refusalOf is what the signature stage says to a call of an app.
func (f *fixture) refusalOf(key string) string {
	f.t.Helper()
	f.now = time.Now()
	r := f.verify(newCall(), f.sign(signer{key: key}, "GET", "/v1/a", ""), rule(f.t, platform.Production))
	if r == nil {
		return ""
	}
	return r.Code.Name
}

func TestOneLoadForAllThatWait(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		hold := make(chan struct{})
		f.reader.set(func(r *reader) { r.hold = hold })
		f.now = time.Now()
		request := f.sign(signer{key: "ak"}, "GET", "/v1/a", "")
		dialects := rule(t, platform.Production).Dialects
		var done sync.WaitGroup
		var found atomic.Int64
		for range 100 {
			done.Go(func() {
				c := newCall()
				if f.Identify(context.Background(), c, request, dialects) == nil && c.app != nil {
					found.Add(1)
				}
			})
		}
		synctest.Wait()
		require.Equal(t, 1, f.reader.loaded())
		close(hold)
		done.Wait()
		require.EqualValues(t, 100, found.Load())
		require.Equal(t, 1, f.reader.loaded())
		require.Equal(t, 1, f.CachedApps())
	}, newApp("ak"))
}

func TestUnknownKeysAreRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		for range 10 {
			require.Equal(t, "app_unknown", f.refusalOf("ak"))
		}
		require.Equal(t, 1, f.reader.loaded())

		f.reader.set(func(r *reader) { r.apps["ak"] = newApp("ak") })
		require.Equal(t, "app_unknown", f.refusalOf("ak"))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangeApp, Key: "ak"}))
		require.Empty(t, f.refusalOf("ak"), "an app that is made is known at once")

		require.Equal(t, "app_unknown", f.refusalOf("later"))
		f.reader.set(func(r *reader) { r.apps["later"] = newApp("later") })
		pass(negativeTTL + time.Second)
		require.Empty(t, f.refusalOf("later"), "even if nobody told")
	})
}

func TestForget(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		require.Empty(t, f.refusalOf("ak"))
		suspended := newApp("ak")
		suspended.Status = platform.Suspended
		f.reader.set(func(r *reader) { r.apps["ak"] = suspended })
		require.Empty(t, f.refusalOf("ak"))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangeApp, Key: "ak"}))
		require.Equal(t, "app_suspended", f.refusalOf("ak"))
		require.Equal(t, 2, f.reader.loaded())
	}, newApp("ak"))
}

// TestForgetDuringALoad: what was read before the change must not stay.
func TestForgetDuringALoad(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		hold := make(chan struct{})
		f.reader.set(func(r *reader) { r.hold = hold })
		var done sync.WaitGroup
		done.Go(func() { f.lookUp("ak") })
		synctest.Wait()
		require.Equal(t, 1, f.reader.loaded(), "the load has read the app as it was")

		suspended := newApp("ak")
		suspended.Status = platform.Suspended
		f.reader.set(func(r *reader) { r.apps["ak"], r.hold = suspended, nil })
		f.Forget("ak")
		close(hold)
		done.Wait()
		require.Equal(t, "app_suspended", f.refusalOf("ak"))
	}, newApp("ak"))
}

// TestStoreDown: apps that called go on, those that did not are refused within
// the time that a load may take.
func TestStoreDown(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		require.Empty(t, f.refusalOf("ak"))
		f.reader.set(func(r *reader) { r.hang = true })
		began := time.Now()
		require.Equal(t, "store_unavailable", f.refusalOf("fresh"))
		require.LessOrEqual(t, time.Since(began), loadTimeout)
		began = time.Now()
		require.Empty(t, f.refusalOf("ak"))
		require.Zero(t, time.Since(began), "a cached app waits for nothing")

		f.reader.set(func(r *reader) { r.hang, r.err = false, errDown })
		require.Equal(t, "store_unavailable", f.refusalOf("fresh"))
		require.Empty(t, f.refusalOf("ak"))
		f.reader.set(func(r *reader) { r.err = nil })
		require.Empty(t, f.refusalOf("fresh"), "a failure is not remembered")
	}, newApp("ak"), newApp("fresh"))
}

func TestStaleness(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		began := time.Now()
		require.Empty(t, f.refusalOf("ak"))
		f.reader.set(func(r *reader) { r.err = errDown })
		for _, after := range []time.Duration{time.Minute, DefaultStaleness / 2, DefaultStaleness - 10*time.Second} {
			pass(time.Until(began.Add(after)))
			require.Empty(t, f.refusalOf("ak"), "after %s", after)
			synctest.Wait()
		}
		require.Greater(t, f.reader.loaded(), 1, "it is looked at again before it goes stale")
		pass(time.Until(began.Add(DefaultStaleness + 10*time.Second)))
		require.Equal(t, "store_unavailable", f.refusalOf("ak"))
		f.reader.set(func(r *reader) { r.err = nil })
		require.Empty(t, f.refusalOf("ak"))
	}, newApp("ak"))
}

// TestRefresh: a change that nobody told of comes into force.
func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.Resize(10, time.Minute)
		require.Empty(t, f.refusalOf("ak"))
		suspended := newApp("ak")
		suspended.Status = platform.Suspended
		f.reader.set(func(r *reader) { r.apps["ak"] = suspended })
		pass(46 * time.Second) // three quarters of the staleness are the latest
		f.refusalOf("ak")
		synctest.Wait()
		require.Equal(t, "app_suspended", f.refusalOf("ak"))
	}, newApp("ak"))
}

func TestCacheIsBounded(t *testing.T) {
	apps := make([]*platform.App, 500)
	for i := range apps {
		apps[i] = newApp("ak" + string(rune('a'+i%26)) + time.Duration(i).String())
	}
	f := newFixture(t, platform.Catalog{}, apps...)
	require.EqualValues(t, DefaultApps, f.apps.cache.GetMaximum())
	f.open(Options{Apps: 50})
	for _, a := range apps {
		f.lookUp(a.Key)
	}
	f.apps.cache.CleanUp()
	require.LessOrEqual(t, f.CachedApps(), 50)
	f.Resize(10, time.Minute)
	f.apps.cache.CleanUp()
	require.LessOrEqual(t, f.CachedApps(), 10)
}

// TestBrokenCredentialIsNoPanic: whatever is wrong with one credential, no call
// of the app can be checked.
func TestBrokenCredentialIsNoPanic(t *testing.T) {
	production := platform.Production
	for name, broken := range map[string]platform.Credential{
		"public key":     {Kind: platform.PublicKey, Dialect: signing.Op1, Environment: production, PublicKeyPEM: "no PEM"},
		"empty secret":   {Kind: platform.SharedSecret, Dialect: signing.Op1, Environment: production},
		"no environment": {Kind: platform.SharedSecret, Dialect: signing.Op1, Secret: platform.NewSecret(secretOf("ak", 2))},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, platform.Catalog{}, newApp("ak", func(a *platform.App) {
				broken.Number = 2
				a.Credentials = append(a.Credentials, broken)
			}))
			requireCode(t, "store_unavailable", f.verify(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), rule(t, production)))
		})
	}
}

// TestOverTheRealStore: changes through the service take effect at once.
func TestOverTheRealStore(t *testing.T) {
	ctx := t.Context()
	key, err := store.NewKey(rand.Reader)
	require.NoError(t, err)
	keys, err := store.NewKeyring(key)
	require.NoError(t, err)
	st, err := store.OpenSQLite(ctx, filepath.Join(t.TempDir(), "store.db"), keys, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	g, err := New(ctx, Options{Store: st, Ledger: newLedger(limit.NonceOptions{})})
	require.NoError(t, err)
	t.Cleanup(g.Close)
	service := platform.NewService(platform.ServiceOptions{Store: st, OnChange: func(c platform.Change) {
		require.NoError(t, g.Apply(context.Background(), c))
	}})
	list := func(v, digest string, paths ...string) {
		t.Helper()
		file := platform.CatalogFile{Source: v, Digest: digest}
		for _, p := range paths {
			a := onlineAPI("GET", p, "orders", platform.BasicPackage)
			a.Source, a.Status, a.Name = v, "", "orders"+p[len(p)-1:]
			file.APIs = append(file.APIs, a)
		}
		_, err := service.ApplyCatalog(ctx, "test", file)
		require.NoError(t, err)
	}
	app, _, err := service.CreateApp(ctx, "test", platform.NewApp{Name: "Shop"})
	require.NoError(t, err)

	list("one.yaml", "1", "/v1/a")
	found, _ := g.catalog.Load().routes.find("GET", "/v1/a")
	require.NotNil(t, found)
	list("one.yaml", "2", "/v1/b")
	found, _ = g.catalog.Load().routes.find("GET", "/v1/a")
	require.False(t, found.serves(time.Now()), "what the file no longer has is offline")
	found, _ = g.catalog.Load().routes.find("GET", "/v1/b")
	require.True(t, found.serves(time.Now()))

	// A new API takes the route of one that is offline.
	file := platform.CatalogFile{Source: "two.yaml", Digest: "3", APIs: []platform.API{onlineAPI("GET", "/v1/a", "anew", platform.BasicPackage)}}
	file.APIs[0].Source = "two.yaml"
	_, err = service.ApplyCatalog(ctx, "test", file)
	require.NoError(t, err)
	found, _ = g.catalog.Load().routes.find("GET", "/v1/a")
	require.Equal(t, "anew", found.Name)

	got, err := g.apps.get(ctx, app.Key)
	require.NoError(t, err)
	require.Equal(t, platform.Active, got.Status)
	_, err = service.SuspendApp(ctx, "test", app.ID)
	require.NoError(t, err)
	got, err = g.apps.get(ctx, app.Key)
	require.NoError(t, err)
	require.Equal(t, platform.Suspended, got.Status)
	require.NoError(t, service.DeleteApp(ctx, "test", app.ID))
	got, err = g.apps.get(ctx, app.Key)
	require.NoError(t, err)
	require.Nil(t, got)
}

// TestBadCatalogKeepsTheGoodOne: a reload that fails changes nothing.
func TestBadCatalogKeepsTheGoodOne(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{onlineAPI("GET", "/v1/a", "a", "basic")}}, newApp("ak"))
	f.reader.set(func(r *reader) { r.err = errDown })
	require.ErrorIs(t, f.ReloadCatalog(t.Context()), errDown)
	require.ErrorIs(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangeCatalog}), errDown)
	f.reader.set(func(r *reader) { r.err = nil })
	f.reader.set(func(r *reader) {
		r.catalog.APIs = []platform.API{onlineAPI("GET", "/v1/b", "a", "basic"), onlineAPI("GET", "/v1/b", "b", "basic")}
	})
	require.ErrorContains(t, f.ReloadCatalog(t.Context()), "share GET /v1/b")
	requireCode(t, "", f.call(newCall(), f.sign(signer{key: "ak"}, "GET", "/v1/a", ""), rule(t, platform.Production), ""))
	require.Equal(t, []string{"ok"}, f.calls)

	f.reader.set(func(r *reader) { r.err = errDown })
	_, err := New(t.Context(), Options{Store: f.reader})
	require.ErrorIs(t, err, errDown)
}

// TestReloadMissesNothing: after it, what changed unseen is in force; where it
// fails, apps that called go on.
func TestReloadMissesNothing(t *testing.T) {
	f := newFixture(t, platform.Catalog{APIs: []platform.API{onlineAPI("GET", "/v1/a", "a", "basic")}}, newApp("ak"), newApp("other"))
	refusal := func(key, path string) *Refusal {
		return f.call(newCall(), f.sign(signer{key: key}, "GET", path, ""), rule(t, platform.Production), "")
	}
	requireCode(t, "", refusal("ak", "/v1/a"))
	requireCode(t, "", refusal("other", "/v1/a"))
	suspended := newApp("ak")
	suspended.Status = platform.Suspended
	f.reader.set(func(r *reader) {
		r.apps["ak"], r.err = suspended, errDown
		r.catalog.APIs = []platform.API{onlineAPI("GET", "/v1/b", "b", "basic")}
	})
	require.ErrorIs(t, f.Reload(t.Context()), errDown)
	requireCode(t, "", refusal("ak", "/v1/a"))
	f.reader.set(func(r *reader) { r.err = nil })
	require.NoError(t, f.Reload(t.Context()))
	requireCode(t, "app_suspended", refusal("ak", "/v1/b"))
	requireCode(t, "", refusal("other", "/v1/b"))
	requireCode(t, "api_unknown", refusal("other", "/v1/a"))
}

// TestAppByKey: who asks can tell an app that does not exist from a store that
// does not answer.
func TestAppByKey(t *testing.T) {
	f := newFixture(t, platform.Catalog{}, newApp("ak"))
	a, err := f.AppByKey(t.Context(), "ak")
	require.NoError(t, err)
	require.Equal(t, "app_ak", a.ID)
	_, err = f.AppByKey(t.Context(), "nobody")
	require.ErrorIs(t, err, platform.ErrNotFound)
	f.reader.set(func(r *reader) { r.err = errDown })
	_, err = f.AppByKey(t.Context(), "later")
	require.ErrorIs(t, err, errDown)
}

// TestAppWithMuch: an app may have more of everything than has room in it.
func TestAppWithMuch(t *testing.T) {
	top := signer{dialect: "top", method: "hmac-sha256"}
	signers := []signer{{}, top, {}, top, {}}
	var changes []func(*platform.App)
	for _, s := range signers[1:] {
		changes = append(changes, withSecret(cmp.Or(s.dialect, signing.Op1), s.method, platform.Production))
	}
	for i := range 5 {
		until := start.AddDate(0, 0, i+1)
		changes = append(changes, withPackage(fmt.Sprint("package ", i), platform.Period{Until: until}))
	}
	much := newApp("much", append(changes, func(a *platform.App) {
		for i := range 3 {
			a.IPs = append(a.IPs, platform.IPRule{Prefix: netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", 5+i))})
		}
	})...)
	f := newFixture(t, platform.Catalog{}, much)

	for i, s := range signers {
		s.key, s.number = "much", i+1
		require.Nil(t, f.verify(newCall(), f.sign(s, "GET", "/v1/a?method=a.b", ""), rule(t, platform.Production, signing.Op1, "top")), "credential %d", i+1)
	}
	compiled, err := compileApp(much)
	require.NoError(t, err)
	for i := range 5 {
		period, granted := compiled.period(unique.Make(fmt.Sprint("package ", i)))
		require.True(t, granted)
		require.Equal(t, start.AddDate(0, 0, i+1), period.Until)
	}
	_, granted := compiled.period(unique.Make("package"))
	require.False(t, granted)
	for i := range 4 {
		require.Equal(t, i < 3, compiled.ips.contains(netip.AddrFrom4([4]byte{203, 0, 113, byte(5 + i)})))
	}
}
