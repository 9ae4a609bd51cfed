package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("the store is down")

// reader is a platform.Reader that a test can stop and hold up. Only what the
// gate asks for is there.
type reader struct {
	platform.Reader
	mu      sync.Mutex
	apps    map[string]*platform.App
	catalog platform.Catalog
	err     error
	hang    bool          // answer only when the caller gives up
	hold    chan struct{} // answer only when this is closed
	loads   int
}

func (r *reader) AppByKey(ctx context.Context, key string) (*platform.App, error) {
	r.mu.Lock()
	r.loads++
	a, err, hold, hang := r.apps[key], r.err, r.hold, r.hang
	r.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if hold != nil {
		<-hold
	}
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, fmt.Errorf("app %s: %w", key, platform.ErrNotFound)
	}
	return a, nil
}

func (r *reader) Catalog(context.Context) (*platform.Catalog, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.catalog
	return &c, r.err
}

func (r *reader) set(change func(*reader)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *reader) loaded() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loads
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// fixture is a gate whose clock the test moves.
type fixture struct {
	*Gate
	t      testing.TB
	reader *reader
	now    time.Time
	nonce  int
	calls  []string
}

func newFixture(t testing.TB, catalog platform.Catalog, apps ...*platform.App) *fixture {
	t.Helper()
	f := &fixture{t: t, now: start, reader: &reader{catalog: catalog, apps: map[string]*platform.App{}}}
	for _, a := range apps {
		f.reader.apps[a.Key] = a
	}
	f.open(Options{})
	t.Cleanup(func() { f.Close() })
	return f
}

// open makes the gate with the options that the test cares for.
func (f *fixture) open(o Options) {
	f.t.Helper()
	o.Store, o.Recorder = f.reader, f
	if o.Ledger == nil {
		o.Ledger = newLedger(limit.NonceOptions{})
	}
	if o.Now == nil {
		o.Now = func() time.Time { return f.now }
	}
	if f.Gate != nil {
		f.Close()
	}
	g, err := New(context.Background(), o)
	require.NoError(f.t, err)
	f.Gate = g
}

// newLedger is an empty ledger in memory.
func newLedger(o limit.NonceOptions) *limit.Local {
	o.Rand = rand.Reader
	return &limit.Local{Limits: limit.NewMemory(limit.MemoryOptions{}), Nonces: limit.NewMemoryNonces(o)}
}

// Record notes what a call ended with.
func (f *fixture) Record(c *Call) {
	name := "ok"
	if c.Refusal != nil {
		name = c.Refusal.Code.Name
	}
	f.calls = append(f.calls, name)
}

// secretOf is the secret of an app's credential.
func secretOf(key string, number int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%s#%d.", key, number), 8)
}

// newApp is an active app with one op1 secret of production.
func newApp(key string, change ...func(*platform.App)) *platform.App {
	a := &platform.App{ID: "app_" + key, Key: key, Number: limit.Hash(key) >> 8, Name: key, Status: platform.Active}
	withSecret(signing.Op1, "", platform.Production)(a)
	for _, c := range change {
		c(a)
	}
	return a
}

// withSecret adds a credential with the next number.
func withSecret(dialect, method string, env platform.Environment) func(*platform.App) {
	return func(a *platform.App) {
		n := len(a.Credentials) + 1
		a.Credentials = append(a.Credentials, platform.Credential{
			Number: n, Environment: env, Kind: platform.SharedSecret, Dialect: dialect,
			Secret: platform.NewSecret(secretOf(a.Key, n)), CreatedAt: start,
		})
		if dialect != signing.Op1 {
			a.Dialects = append(a.Dialects, platform.DialectGrant{Dialect: dialect, Method: method})
		}
	}
}

func withPackage(name string, p platform.Period) func(*platform.App) {
	return func(a *platform.App) {
		a.Packages = append(a.Packages, platform.PackageGrant{Package: name, Period: p})
	}
}

// signer is what a test signs a call with.
type signer struct {
	dialect, method, key, secretKey string
	number, named                   int
	token                           string
}

// sign makes the request as it arrives on the wire.
func (f *fixture) sign(s signer, method, target, body string) *signing.Request {
	f.t.Helper()
	if s.dialect == "" {
		s.dialect = signing.Op1
	}
	if s.number == 0 {
		s.number = 1
	}
	if s.secretKey == "" {
		s.secretKey = s.key
	}
	key, err := signing.NewSigningSecret(s.dialect, s.method, secretOf(s.secretKey, s.number))
	require.NoError(f.t, err)
	f.nonce++
	path, query, _ := strings.Cut(target, "?")
	r := &signing.Request{
		Method: method, Scheme: "https", Authority: "open.test", Path: path, RawQuery: query, Header: http.Header{},
		ContentLength: int64(len(body)), Body: []byte(body), BodyRead: true,
	}
	signed, err := signing.Sign(s.dialect, r, signing.Credentials{AppKey: s.key, KeyNumber: s.named, Key: key, Token: s.token},
		f.now, fmt.Sprintf("nonce-%010d", f.nonce))
	require.NoError(f.t, err)
	out := *r
	out.Header, out.RawQuery, out.Body = signed.Header, signed.RawQuery, signed.Body
	out.ContentLength = int64(len(signed.Body))
	return &out
}

// rule is a route's demand.
func rule(t testing.TB, env platform.Environment, dialects ...string) *Rule {
	t.Helper()
	if len(dialects) == 0 {
		dialects = []string{signing.Op1}
	}
	set, err := signing.NewSet(dialects...)
	require.NoError(t, err)
	return &Rule{Environment: env, Dialects: set, Names: dialects}
}

// verify walks a call through the stages that open_ip and open_sign run.
func (f *fixture) verify(c *Call, r *signing.Request, rule *Rule) *Refusal {
	f.Start(c)
	f.t.Helper()
	ctx := context.Background()
	require.NoError(f.t, f.Identify(ctx, c, r, rule.Dialects))
	if refusal := f.CheckIP(c, nil); refusal != nil {
		return refusal
	}
	if refusal := f.Verify(c, r, rule); refusal != nil {
		return refusal
	}
	if refusal := c.CheckBody(r.Body); refusal != nil {
		return refusal
	}
	return f.SpendNonce(ctx, c, r, rule)
}

// call walks a call through the whole gate and records it.
func (f *fixture) call(c *Call, r *signing.Request, rule *Rule, token string) *Refusal {
	f.t.Helper()
	c.Refusal = f.verify(c, r, rule)
	if c.Refusal == nil {
		c.Refusal = f.Authorize(context.Background(), c, r.Method, r.Path, Token{Value: token})
	}
	if c.Refusal == nil {
		c.Refusal = f.Charge(context.Background(), c)
	}
	f.Gate.Record(c)
	return c.Refusal
}

func newCall() *Call {
	return &Call{RequestID: "req", ClientIP: netip.MustParseAddr("203.0.113.7"), Started: start}
}

// requireCode requires a refusal with the code; "" means none.
func requireCode(t testing.TB, code string, r *Refusal) {
	t.Helper()
	if code == "" {
		require.Nil(t, r, "%v", r)
		return
	}
	require.NotNil(t, r, "want %s", code)
	require.Equal(t, code, r.Code.Name, r.Detail)
	require.NotEmpty(t, r.Detail)
}

func onlineAPI(method, path, name, pkg string) platform.API {
	return platform.API{
		Name: name, Version: "1.0", Method: method, Path: path, Provider: platform.ByPlatform,
		Package: pkg, Status: platform.Online,
	}
}
