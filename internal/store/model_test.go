package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// modelApp is what the rules say an app must be.
type modelApp struct {
	id, key  string
	status   platform.AppStatus
	secrets  []modelSecret
	packages map[string]bool
	ips      []string
	dialects map[string]bool
}

type modelSecret struct {
	env     platform.Environment
	dialect string
	value   string
	ends    time.Time
}

func (s modelSecret) live(now time.Time) bool { return s.ends.IsZero() || now.Before(s.ends) }

// model does what the service should do, in memory.
type model struct {
	*rapid.T
	s       *platform.Service
	now     time.Time
	apps    map[string]*modelApp
	changes int
	audit   int // entries that were there before
}

// TestServiceAgainstModel runs random changes and compares the store with a
// model after each of them.
func TestServiceAgainstModel(t *testing.T) { onBoth(t, testServiceAgainstModel) }

func testServiceAgainstModel(t *testing.T, e engineTest) {
	store := e.empty(t)
	var m *model
	service := platform.NewService(platform.ServiceOptions{
		Store: store, Now: func() time.Time { return m.now }, OnChange: func(platform.Change) { m.changes++ },
	})
	m = &model{now: testTime}
	for _, p := range []string{"trade", "logistics"} {
		_, err := service.PutPackage(t.Context(), "test", platform.Package{Name: p})
		require.NoError(t, err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m = &model{T: rt, s: service, now: testTime, apps: map[string]*modelApp{}}
		m.audit = m.auditEntries()
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "secret": m.addSecret, "revoke": m.revoke, "status": m.setStatus, "grant": m.grant,
			"ungrant": m.ungrant, "ip": m.ip, "dialect": m.dialect, "delete": m.delete, "wait": m.wait, "": m.check,
		})
	})
}

// pick returns one of the apps, by its ID or its key; it makes the first one.
func (m *model) pick(t *rapid.T) (*modelApp, string) {
	if len(m.apps) == 0 {
		m.create(t)
	}
	a := m.apps[rapid.SampledFrom(slices.Sorted(maps.Keys(m.apps))).Draw(t, "app")]
	return a, rapid.SampledFrom([]string{a.id, a.key}).Draw(t, "ref")
}

// expect compares an error with the one that the rules ask for.
func (m *model) expect(err, want error) bool {
	if want == nil {
		require.NoError(m, err)
		return true
	}
	require.ErrorIs(m, err, want)
	return false
}

func (m *model) create(t *rapid.T) {
	a, secret, err := m.s.CreateApp(t.Context(), "test", platform.NewApp{Name: "app", Packages: []string{"trade"}})
	require.NoError(t, err)
	m.apps[a.ID] = &modelApp{
		id: a.ID, key: a.Key, status: platform.Active, packages: map[string]bool{"trade": true}, dialects: map[string]bool{},
		secrets: []modelSecret{{env: platform.Sandbox, dialect: "op1", value: secret.Secret}},
	}
}

func (m *model) addSecret(t *rapid.T) {
	a, ref := m.pick(t)
	env := rapid.SampledFrom([]platform.Environment{platform.Sandbox, platform.Production}).Draw(t, "env")
	dialect := rapid.SampledFrom([]string{"op1", "top"}).Draw(t, "dialect")
	var want error
	live := 0
	for _, s := range a.secrets {
		if s.env == env && s.dialect == dialect && s.live(m.now) {
			live++
		}
	}
	if live == 2 || dialect != "op1" && !a.dialects[dialect] {
		want = platform.ErrConflict
	}
	issued, err := m.s.AddSecret(t.Context(), "test", ref, platform.SecretRequest{Environment: env, Dialect: dialect})
	if m.expect(err, want) {
		require.Equal(t, len(a.secrets)+1, issued.Number)
		a.secrets = append(a.secrets, modelSecret{env: env, dialect: dialect, value: issued.Secret})
	}
}

func (m *model) revoke(t *rapid.T) {
	a, ref := m.pick(t)
	n := rapid.IntRange(1, len(a.secrets)+1).Draw(t, "number")
	after := time.Duration(rapid.IntRange(0, 3).Draw(t, "after")) * time.Hour
	var want error
	switch {
	case n > len(a.secrets):
		want = platform.ErrNotFound
	case !a.secrets[n-1].live(m.now):
		want = platform.ErrConflict
	}
	_, err := m.s.RevokeCredential(t.Context(), "test", ref, n, after)
	if m.expect(err, want) {
		if s := &a.secrets[n-1]; s.ends.IsZero() || m.now.Add(after).Before(s.ends) {
			s.ends = m.now.Add(after)
		}
	}
}

func (m *model) setStatus(t *rapid.T) {
	a, ref := m.pick(t)
	var err error
	if a.status = rapid.SampledFrom([]platform.AppStatus{platform.Active, platform.Suspended}).Draw(t, "status"); a.status == platform.Active {
		_, err = m.s.ResumeApp(t.Context(), "test", ref)
	} else {
		_, err = m.s.SuspendApp(t.Context(), "test", ref)
	}
	m.expect(err, nil)
}

func (m *model) grant(t *rapid.T) {
	a, ref := m.pick(t)
	p := rapid.SampledFrom([]string{"trade", "logistics"}).Draw(t, "package")
	_, err := m.s.GrantPackage(t.Context(), "test", ref, p, platform.Period{})
	m.expect(err, nil)
	a.packages[p] = true
}

func (m *model) ungrant(t *rapid.T) {
	a, ref := m.pick(t)
	p := rapid.SampledFrom([]string{"trade", "logistics"}).Draw(t, "package")
	var want error
	if !a.packages[p] {
		want = platform.ErrNotFound
	}
	_, err := m.s.RevokePackage(t.Context(), "test", ref, p)
	if m.expect(err, want) {
		delete(a.packages, p)
	}
}

func (m *model) ip(t *rapid.T) {
	a, ref := m.pick(t)
	rule := fmt.Sprintf("203.0.113.%d/32", rapid.IntRange(1, 4).Draw(t, "host"))
	i, add := slices.Index(a.ips, rule), rapid.Bool().Draw(t, "add")
	switch {
	case add && i < 0:
		_, err := m.s.AddIP(t.Context(), "test", ref, strings.TrimSuffix(rule, "/32"), "")
		m.expect(err, nil)
		a.ips = append(a.ips, rule)
	case add:
		_, err := m.s.AddIP(t.Context(), "test", ref, rule, "")
		m.expect(err, platform.ErrConflict)
	case i < 0:
		_, err := m.s.RemoveIP(t.Context(), "test", ref, rule)
		m.expect(err, platform.ErrNotFound)
	default:
		_, err := m.s.RemoveIP(t.Context(), "test", ref, rule)
		m.expect(err, nil)
		a.ips = slices.Delete(a.ips, i, i+1)
	}
}

func (m *model) dialect(t *rapid.T) {
	a, ref := m.pick(t)
	if a.dialects["top"] {
		_, err := m.s.DisallowDialect(t.Context(), "test", ref, "top")
		m.expect(err, nil)
		delete(a.dialects, "top")
		for i := range a.secrets {
			if s := &a.secrets[i]; s.dialect == "top" && s.live(m.now) {
				s.ends = m.now
			}
		}
		return
	}
	issued, err := m.s.AllowDialect(t.Context(), "test", ref, "top", "", "")
	m.expect(err, nil)
	a.dialects["top"] = true
	a.secrets = append(a.secrets, modelSecret{env: platform.Sandbox, dialect: "top", value: issued.Secret})
}

func (m *model) delete(t *rapid.T) {
	a, ref := m.pick(t)
	m.expect(m.s.DeleteApp(t.Context(), "test", ref), nil)
	delete(m.apps, a.id)
	_, err := m.s.App(t.Context(), ref)
	require.ErrorIs(t, err, platform.ErrNotFound)
}

func (m *model) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
}

// check compares every app with its model.
func (m *model) check(t *rapid.T) {
	require.Equal(t, m.audit+m.changes, m.auditEntries(), "one audit entry for each change that was made")
	for id, want := range m.apps {
		got, err := m.s.App(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want.status, got.Status)
		require.Len(t, got.Credentials, len(want.secrets))
		for i, s := range want.secrets {
			c := got.Credentials[i]
			stored := modelSecret{c.Environment, c.Dialect, string(c.Secret.Reveal()), c.ExpiresAt}
			require.Equal(t, s, stored)
		}
		var ips, packages, dialects []string
		for _, r := range got.IPs {
			ips = append(ips, r.Prefix.String())
		}
		for _, p := range got.Packages {
			packages = append(packages, p.Package)
		}
		for _, d := range got.Dialects {
			dialects = append(dialects, d.Dialect)
		}
		require.ElementsMatch(t, want.ips, ips)
		require.Equal(t, slices.Sorted(maps.Keys(want.packages)), packages)
		require.Equal(t, slices.Sorted(maps.Keys(want.dialects)), dialects)
	}
}

// auditEntries is the ID of the last entry: each change adds one.
func (m *model) auditEntries() int {
	entries, err := m.s.Audit(m.Context(), platform.AuditFilter{Limit: 1})
	if err != nil || len(entries) == 0 {
		panic(errors.Join(errors.New("no audit entry"), err))
	}
	return int(entries[0].ID)
}
