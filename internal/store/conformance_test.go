package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestConformance runs what every engine must do against each of them.
func TestConformance(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		c := conformance{e.empty}
		t.Run("apps", c.apps)
		t.Run("lists", c.lists)
		t.Run("references", c.references)
		t.Run("catalog", c.catalog)
		t.Run("audit", c.audit)
		t.Run("quotas", c.quotas)
		t.Run("transactions", c.transactions)
		t.Run("deadlines", c.deadlines)
		t.Run("writers", c.writers)
		t.Run("import", c.imports)
		t.Run("numbers", c.numbers)
		t.Run("unstorable", c.unstorable)
	})
}

// conformance holds the tests; each gets an empty store from open.
type conformance struct {
	open func(testing.TB) *Store
}

func (c conformance) apps(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(
			tx.PutPackage(ctx, &platform.Package{Name: "trade"}),
			tx.PutPlan(ctx, &platform.Plan{Name: "gold"}),
			tx.PutIPGroup(ctx, &platform.IPGroup{Name: "office"}),
		)
	})
	a := testApp("a")
	a.Plan = "gold"
	a.IPs = []platform.IPRule{
		{Group: "office", Note: "group"},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Note: "网段"},
		{Prefix: netip.MustParsePrefix("2001:db8::1/128")},
	}
	a.Packages = []platform.PackageGrant{
		{Package: "basic"},
		{Package: "trade", Period: platform.Period{From: testTime, Until: testTime.Add(time.Hour)}},
	}
	putApps(t, s, a)
	require.NotZero(t, a.Number)

	byKey, err := s.AppByKey(ctx, "ak_a")
	require.NoError(t, err)
	require.Equal(t, a, byKey)
	byID, err := s.App(ctx, "app_a")
	require.NoError(t, err)
	require.Equal(t, a, byID)

	// What hangs from the app is replaced, its secrets survive.
	byID.IPs, byID.Packages, byID.Name, byID.Status = nil, byID.Packages[1:], "New", platform.Suspended
	byID.Credentials = append(byID.Credentials, platform.Credential{Number: 4, Kind: platform.SharedSecret, Secret: platform.NewSecret([]byte("second"))})
	byID.Dialects[1].Method = "hmac-sha256"
	putApps(t, s, byID)
	again, err := s.AppByKey(ctx, "ak_a")
	require.NoError(t, err)
	require.Equal(t, byID, again)
	require.Equal(t, "sk_first_a", string(again.Credentials[0].Secret.Reveal()))

	for name, taken := range map[string]*platform.App{
		"id":  {ID: "app_a", Key: "ak_b"},
		"key": {ID: "app_b", Key: "ak_a"},
	} {
		err := s.Update(ctx, func(tx platform.Tx) error { return tx.PutApp(ctx, taken) })
		require.ErrorIs(t, err, platform.ErrConflict, name)
		require.Zero(t, taken.Number)
	}
	stranger := &platform.App{ID: "app_x", Key: "ak_x", Number: 77}
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.PutApp(ctx, stranger) }), platform.ErrNotFound)

	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, "app_a") })
	_, err = s.App(ctx, "app_a")
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = s.AppByKey(ctx, "ak_a")
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.ErrorIs(t, s.Update(ctx, func(tx platform.Tx) error { return tx.DeleteApp(ctx, "app_a") }), platform.ErrNotFound)
	// Nothing of it is left to hold these.
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(tx.DeletePackage(ctx, "trade"), tx.DeletePlan(ctx, "gold"), tx.DeleteIPGroup(ctx, "office"))
	})
}

func (c conformance) lists(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	empty, err := s.Apps(ctx, platform.AppFilter{}, platform.Page{})
	require.NoError(t, err)
	require.Empty(t, empty)
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(tx.PutPackage(ctx, &platform.Package{Name: "trade"}), tx.PutPlan(ctx, &platform.Plan{Name: "gold"}), tx.PutIPGroup(ctx, &platform.IPGroup{Name: "office"}))
	})
	for i := range 7 {
		a := testApp(fmt.Sprint(i))
		if i%2 == 0 {
			a.Kind, a.Name = platform.Merchant, fmt.Sprintf("50%%_Off %d", i)
		}
		if i == 3 {
			a.Status = platform.Suspended
			a.Plan, a.Packages, a.IPs = "gold", []platform.PackageGrant{{Package: "trade"}}, []platform.IPRule{{Group: "office"}}
		}
		putApps(t, s, a)
	}
	ids := func(f platform.AppFilter, p platform.Page) (ids []string) {
		apps, err := s.Apps(ctx, f, p)
		require.NoError(t, err)
		for _, a := range apps {
			require.Empty(t, a.Credentials, "a list shows no credentials")
			require.Len(t, a.Dialects, 2)
			ids = append(ids, a.ID)
		}
		return ids
	}
	require.Len(t, ids(platform.AppFilter{}, platform.Page{}), 7)
	require.Equal(t, []string{"app_0", "app_1"}, ids(platform.AppFilter{}, platform.Page{Limit: 2}))
	require.Equal(t, []string{"app_2", "app_3"}, ids(platform.AppFilter{}, platform.Page{Limit: 2, After: "app_1"}))
	require.Equal(t, []string{"app_3"}, ids(platform.AppFilter{Status: platform.Suspended}, platform.Page{}))
	require.Equal(t, []string{"app_1", "app_3", "app_5"}, ids(platform.AppFilter{Kind: platform.ISV}, platform.Page{}))
	require.Equal(t, []string{"app_0", "app_2", "app_4", "app_6"}, ids(platform.AppFilter{Text: "0%_oFF"}, platform.Page{}))
	require.Equal(t, []string{"app_5"}, ids(platform.AppFilter{Text: "ak_5"}, platform.Page{}))
	require.Equal(t, []string{"app_5"}, ids(platform.AppFilter{Text: "app_5"}, platform.Page{}))
	require.Empty(t, ids(platform.AppFilter{Text: "' OR 1=1 --"}, platform.Page{}))
	for _, has := range []platform.AppFilter{{Package: "trade"}, {Plan: "gold"}, {IPGroup: "office"}} {
		require.Equal(t, []string{"app_3"}, ids(has, platform.Page{}))
	}
	n, err := s.CountApps(ctx)
	require.NoError(t, err)
	require.Equal(t, 7, n)
}

// What is referred to cannot go, and what is not there cannot be referred to.
func (c conformance) references(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		a := testApp("a")
		a.Plan = "gold"
		a.IPs = []platform.IPRule{{Group: "office"}}
		a.Packages = []platform.PackageGrant{{Package: "trade"}}
		return errors.Join(
			tx.PutPackage(ctx, &platform.Package{Name: "trade"}),
			tx.PutPackage(ctx, &platform.Package{Name: "logistics"}),
			tx.PutAPI(ctx, &platform.API{Name: "a", Version: "1.0", Package: "logistics"}),
			tx.PutPlan(ctx, &platform.Plan{Name: "gold"}),
			tx.PutIPGroup(ctx, &platform.IPGroup{Name: "office"}),
			tx.PutApp(ctx, a),
		)
	})
	for name, fn := range map[string]func(platform.Tx) error{
		"package of an app": func(tx platform.Tx) error { return tx.DeletePackage(ctx, "trade") },
		"package of an API": func(tx platform.Tx) error { return tx.DeletePackage(ctx, "logistics") },
		"plan":              func(tx platform.Tx) error { return tx.DeletePlan(ctx, "gold") },
		"group":             func(tx platform.Tx) error { return tx.DeleteIPGroup(ctx, "office") },
		"no such plan":      func(tx platform.Tx) error { return tx.PutApp(ctx, &platform.App{ID: "x", Key: "x", Plan: "lead"}) },
		"no such package": func(tx platform.Tx) error {
			return tx.PutApp(ctx, &platform.App{ID: "x", Key: "x", Packages: []platform.PackageGrant{{Package: "nope"}}})
		},
		"no such group": func(tx platform.Tx) error {
			return tx.PutApp(ctx, &platform.App{ID: "x", Key: "x", IPs: []platform.IPRule{{Group: "nope"}}})
		},
		"API without package": func(tx platform.Tx) error {
			return tx.PutAPI(ctx, &platform.API{Name: "b", Version: "1.0", Package: "nope"})
		},
	} {
		require.ErrorIs(t, s.Update(ctx, fn), platform.ErrConflict, name)
	}
	// Changing them in place is no removal.
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(
			tx.PutPackage(ctx, &platform.Package{Name: "trade", Title: "new"}),
			tx.PutPlan(ctx, &platform.Plan{Name: "gold", Title: "new"}),
			tx.PutIPGroup(ctx, &platform.IPGroup{Name: "office", Rules: []platform.IPRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}),
		)
	})
}

func (c conformance) catalog(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	fresh, err := s.Catalog(ctx)
	require.NoError(t, err)
	require.Equal(t, &platform.Catalog{Packages: []platform.Package{{Name: platform.BasicPackage}}, Digests: map[string]string{}}, fresh)

	limits := platform.Limits{Rate: limit.Rate{Requests: 100, Period: time.Minute, Burst: 7}, Quota: limit.Quota{Day: 5, Month: 50}}
	want := &platform.Catalog{
		APIs: []platform.API{
			{
				Name: "a.get", Version: "1.0", Title: "取得", Method: "GET", Path: "/v1/a/{id}", Provider: platform.ByPlatform, Package: "basic",
				UserToken: true, Status: platform.Deprecated, DeprecatedAt: testTime, Sunset: testTime.Add(time.Hour), Upstream: "127.0.0.1:1",
				Limits: limits, Example: platform.Example{Status: 200, ContentType: "application/json", Body: []byte("{\x00}")},
				Spec: []byte(`{"n": 1.50}`), Source: "mall",
			},
			{Name: "a.get", Version: "2.0", Method: "GET", Path: "/v2/a", Provider: platform.ByMerchant, Package: "basic", Status: platform.Draft},
		},
		Packages: []platform.Package{{Name: "basic", Title: "Basic", Description: "d", Source: "mall"}},
		Plans: []platform.Plan{
			{Name: "default", Title: "Default", App: limits, AppUser: platform.Limits{Quota: limit.Quota{Day: 1}}},
			{Name: "gold", AppAPI: limits, APIs: map[string]platform.Limits{"a.get": limits, "b.get": {}}},
		},
		IPGroups: []platform.IPGroup{
			{Name: "empty"},
			{Name: "office", Rules: []platform.IPRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Note: "n"}, {Prefix: netip.MustParsePrefix("::/0")}}},
		},
		Platform: limits,
		Digests:  map[string]string{"mall": "abc"},
	}
	for range 2 { // the second time over what is there
		put(t, s, func(ctx context.Context, tx platform.Tx) error { return putCatalog(ctx, tx, want) })
		got, err := s.Catalog(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	// Limits that are taken back leave nothing.
	want.Platform, want.APIs[0].Limits = platform.Limits{}, platform.Limits{}
	want.Plans[0].App, want.Plans[1].APIs = platform.Limits{}, nil
	want.IPGroups[1].Rules = want.IPGroups[1].Rules[:1]
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return putCatalog(ctx, tx, want) })
	got, err := s.Catalog(ctx)
	require.NoError(t, err)
	require.Equal(t, want, got)

	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return errors.Join(
			tx.DeletePlan(ctx, "gold"), tx.DeletePlan(ctx, "default"), tx.DeleteIPGroup(ctx, "office"), tx.DeleteIPGroup(ctx, "empty"),
		)
	})
	got, err = s.Catalog(ctx)
	require.NoError(t, err)
	want.Plans, want.IPGroups = nil, nil
	require.Equal(t, want, got)
	for _, fn := range []func(platform.Tx) error{
		func(tx platform.Tx) error { return tx.DeletePackage(ctx, "nope") },
		func(tx platform.Tx) error { return tx.DeletePlan(ctx, "nope") },
		func(tx platform.Tx) error { return tx.DeleteIPGroup(ctx, "nope") },
	} {
		require.ErrorIs(t, s.Update(ctx, fn), platform.ErrNotFound)
	}
	// A deleted plan's limits do not come back with its name.
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.PutPlan(ctx, &platform.Plan{Name: "gold"}) })
	got, err = s.Catalog(ctx)
	require.NoError(t, err)
	require.Equal(t, []platform.Plan{{Name: "gold"}}, got.Plans)
}

func putCatalog(ctx context.Context, tx platform.Tx, c *platform.Catalog) error {
	err := tx.PutPlatformLimits(ctx, c.Platform)
	for i := range c.Packages {
		err = errors.Join(err, tx.PutPackage(ctx, &c.Packages[i]))
	}
	for i := range c.APIs {
		err = errors.Join(err, tx.PutAPI(ctx, &c.APIs[i]))
	}
	for i := range c.Plans {
		err = errors.Join(err, tx.PutPlan(ctx, &c.Plans[i]))
	}
	for i := range c.IPGroups {
		err = errors.Join(err, tx.PutIPGroup(ctx, &c.IPGroups[i]))
	}
	for source, digest := range c.Digests {
		err = errors.Join(err, tx.PutCatalogDigest(ctx, source, digest))
	}
	return err
}

func (c conformance) audit(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	var all []platform.AuditEntry
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		for i := range 150 {
			e := platform.AuditEntry{
				At: testTime.Add(time.Duration(i) * time.Second), Actor: fmt.Sprint("actor", i%2),
				Action: fmt.Sprint("act", i%3), Target: fmt.Sprint("t", i%5), After: []byte(fmt.Sprintf(`{"i":%d}`, i)),
			}
			if err := tx.AppendAudit(ctx, &e); err != nil {
				return err
			}
			all = append(all, e)
		}
		return nil
	})
	slices.Reverse(all)
	for name, c := range map[string]struct {
		filter platform.AuditFilter
		want   func(i int, e platform.AuditEntry) bool
	}{
		"default":  {platform.AuditFilter{}, func(i int, _ platform.AuditEntry) bool { return i < 100 }},
		"limit":    {platform.AuditFilter{Limit: 3}, func(i int, _ platform.AuditEntry) bool { return i < 3 }},
		"page":     {platform.AuditFilter{Before: all[100].ID}, func(i int, _ platform.AuditEntry) bool { return i > 100 }},
		"actor":    {platform.AuditFilter{Actor: "actor1"}, func(_ int, e platform.AuditEntry) bool { return e.Actor == "actor1" }},
		"action":   {platform.AuditFilter{Action: "act2"}, func(_ int, e platform.AuditEntry) bool { return e.Action == "act2" }},
		"target":   {platform.AuditFilter{Target: "t4"}, func(_ int, e platform.AuditEntry) bool { return e.Target == "t4" }},
		"no match": {platform.AuditFilter{Target: "t9"}, func(int, platform.AuditEntry) bool { return false }},
		"time": {
			platform.AuditFilter{Since: testTime.Add(5 * time.Second), Until: testTime.Add(8 * time.Second)},
			func(i int, _ platform.AuditEntry) bool { return i >= 150-8 && i < 150-5 },
		},
	} {
		want := []platform.AuditEntry{}
		for i, e := range all {
			if c.want(i, e) {
				want = append(want, e)
			}
		}
		got, err := s.Audit(ctx, c.filter)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
}

func (c conformance) quotas(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	none, err := s.LoadQuotas(ctx)
	require.NoError(t, err)
	require.Empty(t, none)
	key := limit.Key{Scope: limit.ScopeAppAPI, App: 1 << 63, Sub: ^uint64(0)}
	first := []limit.QuotaCount{
		{Key: key, Unit: limit.UnitDay, Start: 100, Used: 5},
		{Key: key, Unit: limit.UnitMonth, Start: 50, Used: 500},
		{Key: limit.Key{Scope: limit.ScopePlatform}, Unit: limit.UnitDay, Start: 100, Used: 9},
	}
	for i := range quotaBatch {
		first = append(first, limit.QuotaCount{Key: limit.Key{Scope: limit.ScopeApp, App: uint64(i + 1)}, Unit: limit.UnitDay, Start: 100, Used: 1})
	}
	require.NoError(t, s.SaveQuotas(ctx, first))
	got, err := s.LoadQuotas(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, first, got)

	// Of what two nodes save the greater count stays.
	require.NoError(t, s.SaveQuotas(ctx, []limit.QuotaCount{{Key: key, Unit: limit.UnitDay, Start: 100, Used: 3}, {Key: key, Unit: limit.UnitMonth, Start: 50, Used: 500}}))
	got, err = s.LoadQuotas(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, first, got)

	// The next day drops the day before, and leaves the month.
	next := []limit.QuotaCount{{Key: key, Unit: limit.UnitDay, Start: 200, Used: 1}, {Key: key, Unit: limit.UnitMonth, Start: 50, Used: 501}}
	require.NoError(t, s.SaveQuotas(ctx, next))
	require.NoError(t, s.SaveQuotas(ctx, nil))
	got, err = s.LoadQuotas(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, next, got)
}

func (c conformance) transactions(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	mine := errors.New("mine")
	err := s.Update(ctx, func(tx platform.Tx) error {
		a := testApp("a")
		require.NoError(t, tx.PutApp(ctx, a))
		seen, err := tx.AppByKey(ctx, "ak_a")
		require.NoError(t, err, "a transaction sees what it wrote")
		require.Equal(t, a, seen)
		_, err = s.AppByKey(ctx, "ak_a")
		require.ErrorIs(t, err, platform.ErrNotFound, "others do not, and do not wait")
		return mine
	})
	require.Equal(t, mine, err)
	n, err := s.CountApps(ctx)
	require.NoError(t, err)
	require.Zero(t, n)

	require.PanicsWithValue(t, "boom", func() {
		_ = s.Update(ctx, func(tx platform.Tx) error {
			require.NoError(t, tx.PutApp(ctx, testApp("a")))
			panic("boom")
		})
	})
	putApps(t, s, testApp("a")) // the writer is free, and the ID too
}

func (c conformance) deadlines(t *testing.T) {
	s := c.open(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.AppByKey(canceled, "ak_a")
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)

	// A writer that waits for another one gives up at its deadline.
	err = s.Update(t.Context(), func(platform.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return s.Update(ctx, func(platform.Tx) error { return nil })
	})
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	closed := c.open(t)
	require.NoError(t, closed.Close())
	_, err = closed.Catalog(t.Context())
	require.ErrorIs(t, err, platform.ErrUnavailable)
	require.ErrorIs(t, closed.Update(t.Context(), func(platform.Tx) error { return nil }), platform.ErrUnavailable)
}

// Writers that read before they write lose no update, and readers always see
// a whole app.
func (c conformance) writers(t *testing.T) {
	s := c.open(t)
	const writers, rounds = 8, 15
	ctx := t.Context()
	a := testApp("a")
	a.Name, a.Dialects = "0", nil
	putApps(t, s, a)
	var wg sync.WaitGroup
	fails := make(chan error, 2*writers*rounds)
	for range writers {
		wg.Go(func() {
			for range rounds {
				fails <- s.Update(ctx, func(tx platform.Tx) error {
					a, err := tx.App(ctx, "app_a")
					if err != nil {
						return err
					}
					n := len(a.Dialects) + 1
					a.Name = fmt.Sprint(n)
					a.Dialects = append(a.Dialects, platform.DialectGrant{Dialect: fmt.Sprintf("d%03d", n)})
					return tx.PutApp(ctx, a)
				})
			}
		})
		wg.Go(func() {
			for range rounds {
				a, err := s.AppByKey(ctx, "ak_a")
				if err == nil && a.Name != fmt.Sprint(len(a.Dialects)) {
					err = fmt.Errorf("app %s has %d dialects", a.Name, len(a.Dialects))
				}
				fails <- err
			}
		})
	}
	wg.Wait()
	close(fails)
	for err := range fails {
		require.NoError(t, err)
	}
	got, err := s.App(ctx, "app_a")
	require.NoError(t, err)
	require.Len(t, got.Dialects, writers*rounds)
}

func (c conformance) imports(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	const n = importBatch + 10
	apps := func(yield func(platform.App) bool) {
		for i := range n {
			a := testApp(fmt.Sprintf("%05d", i))
			if i == n-1 {
				a.Number = 1_000_000
			}
			if !yield(*a) {
				return
			}
		}
	}
	done, err := s.ImportApps(ctx, apps)
	require.NoError(t, err)
	require.Equal(t, n, done)
	a, err := s.AppByKey(ctx, fmt.Sprintf("ak_%05d", n-1))
	require.NoError(t, err)
	want := testApp(fmt.Sprintf("%05d", n-1))
	want.Number = 1_000_000
	require.Equal(t, want, a)
	after := testApp("after")
	putApps(t, s, after)
	require.EqualValues(t, 1_000_001, after.Number)

	// The second batch meets a taken ID: the first one stays.
	again := func(yield func(platform.App) bool) {
		for i := range importBatch {
			if !yield(*testApp(fmt.Sprintf("new%05d", i))) {
				return
			}
		}
		yield(*testApp("00001"))
	}
	done, err = s.ImportApps(ctx, again)
	require.ErrorIs(t, err, platform.ErrConflict)
	require.Equal(t, importBatch, done)
	count, err := s.CountApps(ctx)
	require.NoError(t, err)
	require.Equal(t, n+1+importBatch, count)
}

// A number names an app for ever: limits and nonces count by it.
func (c conformance) numbers(t *testing.T) {
	s := c.open(t)
	first, second := testApp("a"), testApp("b")
	putApps(t, s, first, second)
	require.NotEqual(t, first.Number, second.Number)
	put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, "app_b") })
	third := testApp("c")
	putApps(t, s, third)
	require.Greater(t, third.Number, second.Number)
}

// Text that PostgreSQL cannot keep is nothing that can be found, and a mistake
// where it is written; the database is not to blame.
func (c conformance) unstorable(t *testing.T) {
	s := c.open(t)
	ctx := t.Context()
	putApps(t, s, testApp("a"))
	for _, bad := range []string{"ak_a\x00", "ak_\xff"} {
		_, err := s.AppByKey(ctx, bad)
		require.ErrorIs(t, err, platform.ErrNotFound)
		_, err = s.App(ctx, bad)
		require.ErrorIs(t, err, platform.ErrNotFound)
		apps, err := s.Apps(ctx, platform.AppFilter{Text: bad}, platform.Page{})
		require.NoError(t, err)
		require.Empty(t, apps)
		entries, err := s.Audit(ctx, platform.AuditFilter{Target: bad})
		require.NoError(t, err)
		require.Empty(t, entries)
		err = s.Update(ctx, func(tx platform.Tx) error { return tx.PutPackage(ctx, &platform.Package{Name: bad}) })
		if s.pool != nil {
			require.ErrorIs(t, err, platform.ErrConflict)
		}
		service := platform.NewService(platform.ServiceOptions{Store: s})
		_, err = service.Audit(ctx, platform.AuditFilter{Target: bad})
		var mistake *platform.FieldError
		require.ErrorAs(t, err, &mistake)
		_, _, err = service.CreateApp(ctx, "test", platform.NewApp{Name: bad})
		require.ErrorAs(t, err, &mistake)
	}
}
