package oauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// loadTimeout bounds one look into the store, so that a slow store refuses
// calls instead of piling them up. negativeTTL is how long a token that is not
// valid stays so without a look.
const (
	loadTimeout = 2 * time.Second
	negativeTTL = 10 * time.Second
	// defaultStaleness is that of the gate's cache of apps.
	defaultStaleness = 10 * time.Minute
	// DefaultTokens is how many tokens are kept in memory.
	DefaultTokens = 100_000
)

// VerifierOptions are the settings of a Verifier.
type VerifierOptions struct {
	// Resources are what the gate answers for. A token that was asked for other
	// resources alone (RFC 8707) does not pass; one for no resource does. Empty:
	// the gate answers for all that tokens are given for.
	Resources []string
	// Tokens bounds the cache, in tokens. 0 means 100,000.
	Tokens int
	// Staleness is how long a cached token serves while the store is down.
	// 0 means 10 minutes.
	Staleness time.Duration
	// Ledger remembers which proofs were used. Nil: this node alone remembers.
	Ledger limit.Ledger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier checks access tokens for the gate, and tells of them. A token that was seen before costs
// no look into the store: what ends it is told by Apply. It is safe for
// concurrent use.
type Verifier struct {
	store     Store
	resources []string
	ledger    limit.Ledger
	now       func() time.Time
	staleness atomic.Int64
	cache     *otter.Cache[Hash, *seen]
	loader    otter.Loader[Hash, *seen]
	revoked   revocations
}

// seen is an access token made ready for checking calls. It is immutable but
// for checked.
type seen struct {
	// token is nil where there is no such token.
	token *Token
	user  platform.TokenUser
	// foreign says that it was asked for other resources.
	foreign bool
	// checked is up to which revocation the token is known to hold.
	checked atomic.Uint64
}

// opens tells whether calls may be made with the token at all: a merchant must
// have granted it.
func (t *seen) opens() bool { return t.token != nil && t.token.Grant != "" && !t.foreign }

// NewVerifier makes a verifier on store.
func NewVerifier(store Store, o VerifierOptions) (*Verifier, error) {
	if o.Tokens == 0 {
		o.Tokens = DefaultTokens
	}
	if o.Staleness == 0 {
		o.Staleness = defaultStaleness
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ledger == nil {
		o.Ledger = newLedger()
	}
	v := &Verifier{store: store, resources: o.Resources, ledger: o.Ledger, now: o.Now}
	v.staleness.Store(int64(o.Staleness))
	v.loader = otter.LoaderFunc[Hash, *seen](v.load)
	cache, err := otter.New(&otter.Options[Hash, *seen]{
		MaximumSize: o.Tokens,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[Hash, *seen]) time.Duration {
			if e.Value.token == nil {
				return negativeTTL
			}
			return time.Duration(v.staleness.Load())
		}),
		// As with apps: looked at again long before it goes stale, and not
		// together with those that were loaded at the same time.
		RefreshCalculator: otter.RefreshWritingFunc(func(otter.Entry[Hash, *seen]) time.Duration {
			staleness := time.Duration(v.staleness.Load())
			return staleness/4 + rand.N(max(staleness/2, 1)) //nolint:gosec // G404: any spread will do
		}),
		Logger: &otter.NoopLogger{},
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache of tokens: %w", err)
	}
	v.cache = cache
	return v, nil
}

// Close stops what the verifier runs in the background.
func (v *Verifier) Close() { v.cache.StopAllGoroutines() }

// Resize changes the bounds of the cache while calls go on.
func (v *Verifier) Resize(tokens int, staleness time.Duration) {
	if before := v.staleness.Swap(int64(staleness)); int64(staleness) < before {
		v.ForgetAll() // what is cached would outlive the revocations that are remembered
	}
	v.cache.SetMaximum(uint64(tokens))
}

// Verify is what package gate asks: the token is the app's own, of this
// environment and for this resource, not expired, not revoked with its grant or
// merchant, and covers the package. The basic package is always covered. A token
// that is bound to a key needs a proof: see VerifyProof.
func (v *Verifier) Verify(ctx context.Context, token string, app *platform.App, env platform.Environment, scope string) (platform.TokenUser, error) {
	t, err := v.usable(ctx, token, app, env, scope)
	if err != nil {
		return platform.TokenUser{}, err
	}
	if t.token.Key != "" {
		return platform.TokenUser{}, platform.ErrTokenInvalid
	}
	return t.user, nil
}

// usable returns the token if it may be used for the call, proof apart.
func (v *Verifier) usable(ctx context.Context, token string, app *platform.App, env platform.Environment, scope string) (*seen, error) {
	if token == "" {
		return nil, platform.ErrTokenMissing
	}
	if !looksLikeAccess(token) {
		return nil, platform.ErrTokenInvalid
	}
	t, err := v.find(ctx, hashInPlace(token))
	if err != nil {
		return nil, fmt.Errorf("checking an access token: %w", err)
	}
	switch {
	case !t.opens() || t.token.App != app.Number || t.token.Environment != env:
		return nil, platform.ErrTokenInvalid
	case !v.now().Before(t.token.ExpiresAt):
		return nil, platform.ErrTokenExpired
	case scope != platform.BasicPackage && !slices.Contains(t.token.Scopes, scope):
		return nil, platform.ErrScopeInsufficient
	}
	return t, nil
}

// Token returns what is known of an access token, expired or not, and looks into
// the store as seldom as Verify does. It must not be changed. A token that is not
// valid, or is a refresh token, is platform.ErrNotFound.
func (v *Verifier) Token(ctx context.Context, token string) (*Token, error) {
	if !looksLikeAccess(token) {
		return nil, platform.ErrNotFound
	}
	t, err := v.find(ctx, hashInPlace(token))
	if err != nil {
		return nil, err
	}
	if t.token == nil {
		return nil, platform.ErrNotFound
	}
	return t.token, nil
}

// hashInPlace is HashOf without a copy of the token.
func hashInPlace(token string) Hash {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(token), len(token))) //nolint:gosec // G103: the bytes are only read
}

// find returns the token as it was after the latest revocation that concerns it.
func (v *Verifier) find(ctx context.Context, hash Hash) (*seen, error) {
	// A load that had begun before a revocation may end after it. The next one
	// begins later; more revocations in the meantime are no reason to give up,
	// but many are one to be careful.
	for range 4 {
		t, err := v.cache.Get(ctx, hash, v.loader)
		if err != nil {
			return nil, err
		}
		latest := v.revoked.latest.Load()
		if t.checked.Load() == latest {
			return t, nil
		}
		if !v.revoked.concerns(t) {
			return t, nil
		}
		v.cache.Invalidate(hash)
	}
	return nil, errors.New("the token's authorization keeps changing")
}

// load looks a token up. What is not valid is kept as such for a while, so that
// guessing does not become load on the store.
func (v *Verifier) load(ctx context.Context, hash Hash) (*seen, error) {
	// The load serves every call that waits for the token, so it must not end
	// with the call that happened to ask first.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	out := &seen{}
	out.checked.Store(v.revoked.latest.Load())
	t, err := v.store.Token(ctx, hash)
	if errors.Is(err, platform.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loading the token: %w", err)
	}
	if t.Kind != AccessToken {
		return out, nil
	}
	out.token, out.user = t, platform.TokenUser{ID: t.User, Scopes: formatScope(t.Scopes)}
	out.foreign = len(t.Resources) > 0 && len(v.resources) > 0 && !slices.ContainsFunc(t.Resources, func(r string) bool {
		return slices.Contains(v.resources, r)
	})
	return out, nil
}
