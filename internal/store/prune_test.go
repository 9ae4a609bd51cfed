package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// What has ended goes, in batches; what is alive stays, and so does what shows
// a replay.
func TestPrune(t *testing.T) { onBoth(t, testPrune) }

func testPrune(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	g, _ := o.authorize(t, "one", "trade")
	_, err := o.RedeemCode(ctx, hashOf("one"), testTime)
	require.NoError(t, err)
	at, rt := o.token(g, "one", "at", oauth.AccessToken), o.token(g, "one", "rt", oauth.RefreshToken)
	rt.ExpiresAt = testTime.Add(180 * day)
	require.NoError(t, o.SaveTokens(ctx, at, rt))
	o.authorize(t, "unused", "trade")
	const own = pruneBatch + 50
	tokens := make([]*oauth.Token, own)
	for i := range tokens {
		tokens[i] = o.token(g, "own", fmt.Sprint("own", i), oauth.AccessToken)
		tokens[i].Grant = ""
	}
	for i := 0; i < own; i += 50 {
		require.NoError(t, o.SaveTokens(ctx, tokens[i:i+50]...))
	}
	count := func(table string) (n int) {
		require.NoError(t, o.readers.QueryRow(`SELECT count(*) FROM `+table).Scan(&n))
		return n
	}
	maintain := func(at time.Time) {
		t.Helper()
		require.NoError(t, o.Maintain(ctx, at, Retention{}))
	}

	maintain(testTime.Add(12 * time.Minute)) // 10 minutes after its end the code is still known
	_, err = o.RedeemCode(ctx, hashOf("unused"), testTime)
	require.NoError(t, err)
	require.Equal(t, []int{2, own + 2, 2, 1}, []int{count("oauth_codes"), count("oauth_tokens"), count("oauth_families"), count("grants")})

	maintain(testTime.Add(day + time.Hour)) // codes, and the family that never had a token
	require.Equal(t, []int{0, own + 2, 1, 1}, []int{count("oauth_codes"), count("oauth_tokens"), count("oauth_families"), count("grants")})

	n, err := o.Prune(ctx, testTime.Add(11*time.Hour))
	require.NoError(t, err)
	require.Equal(t, own+1, n)
	require.Equal(t, []int{1, 1, 1}, []int{count("oauth_tokens"), count("oauth_families"), count("grants")})
	_, err = o.Token(ctx, rt.Hash)
	require.NoError(t, err)

	maintain(testTime.Add(182 * day))
	require.Equal(t, []int{0, 0, 0}, []int{count("oauth_tokens"), count("oauth_families"), count("grants")})

	// A grant that was revoked goes a day later, with what it has.
	g, _ = o.authorize(t, "two", "trade")
	put(t, o.Store, func(ctx context.Context, tx platform.Tx) error { return tx.RevokeGrant(ctx, g.ID, testTime) })
	maintain(testTime.Add(day - time.Hour))
	require.Equal(t, 1, count("grants"))
	maintain(testTime.Add(day + time.Hour))
	require.Zero(t, count("grants"))
}

// TestPruneBesideRevocation: pruning waits for a family before it touches its
// tokens, as revocations do. So they never wait for each other.
func TestPruneBesideRevocation(t *testing.T) {
	o := newOAuthStore(t, engines[1])
	ctx := t.Context()
	g, _ := o.authorize(t, "one", "trade")
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "at", oauth.AccessToken)))
	revocation, err := o.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = revocation.Rollback(ctx) }()
	_, err = o.pool.Exec(ctx, `DELETE FROM oauth_codes`) // so that it begins with the tokens
	require.NoError(t, err)
	_, err = revocation.Exec(ctx, `SELECT 1 FROM oauth_families WHERE id = 'fam_one' FOR UPDATE`)
	require.NoError(t, err)
	pruned := make(chan error, 1)
	go func() {
		_, err := o.Prune(ctx, testTime.Add(11*time.Hour))
		pruned <- err
	}()
	require.Eventually(t, func() bool {
		waiting := 0
		err := o.readers.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting == 1
	}, time.Minute, time.Millisecond)
	_, err = revocation.Exec(ctx, `SELECT 1 FROM oauth_tokens WHERE family = 'fam_one' FOR UPDATE NOWAIT`)
	require.NoError(t, err)
	require.NoError(t, revocation.Commit(ctx))
	require.NoError(t, <-pruned)
	o.requireGone(t, "at")
	require.Zero(t, o.families(t))
}

// A replay on one node is told to the others.
func TestReplayIsToldToAllNodes(t *testing.T) {
	dsn := postgresDatabase(t)
	a, b := openOAuthStore(t, engines[1], dsn), openOAuthStore(t, engines[1], dsn)
	told := watch(t, b.Store)
	_, code := a.authorize(t, "one", "trade")
	_, err := a.RedeemCode(t.Context(), code.Hash, testTime)
	require.NoError(t, err)
	_, err = b.RedeemCode(t.Context(), code.Hash, testTime)
	require.ErrorIs(t, err, oauth.ErrReplayed)
	require.Contains(t, told.next(t), "fam_one")
	require.Empty(t, a.changes())
	require.Len(t, b.changes(), 1)
}

// queryPlan is how SQLite would run the query.
func queryPlan(t *testing.T, s *Store, query string) string {
	t.Helper()
	rows, err := s.readers.Query(`EXPLAIN QUERY PLAN ` + query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan.WriteString(detail + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// Pruning and revoking read indexes, whatever the tables' size.
func TestOAuthIndexes(t *testing.T) {
	s := engines[0].empty(t)
	for query, index := range map[string]string{
		`SELECT hash FROM oauth_tokens WHERE expires_at < 1 ORDER BY expires_at LIMIT 10`:                                                        "oauth_tokens_expiry",
		`SELECT hash FROM oauth_codes WHERE expires_at < 1 ORDER BY expires_at LIMIT 10`:                                                         "oauth_codes_expiry",
		`SELECT id FROM grants WHERE coalesce(revoked_at, expires_at) < 1 ORDER BY coalesce(revoked_at, expires_at) LIMIT 10`:                    "grants_ended",
		`SELECT grant_id FROM oauth_tokens WHERE kind = 2 AND grant_id > 'a' GROUP BY grant_id HAVING count(*) > 200 ORDER BY grant_id LIMIT 10`: "oauth_tokens_refresh",
		`SELECT issued_at FROM oauth_tokens WHERE kind = 2 AND grant_id = 'a' AND replaced_at IS NULL ORDER BY issued_at DESC LIMIT 10`:          "oauth_tokens_refresh",
		`DELETE FROM oauth_tokens WHERE family = 'a'`:                                                                                            "oauth_tokens_family",
		`DELETE FROM oauth_families WHERE grant_id = 'a'`:                                                                                        "oauth_families_grant",
		`SELECT id FROM grants WHERE user_id = 'a' AND app = 1 AND environment = 'b' AND revoked_at IS NULL`:                                     "grants_live",
		`SELECT id FROM grants g WHERE g.id > '' AND g.user_id = 'a' ORDER BY g.id LIMIT 10`:                                                     "grants_user",
		`SELECT id FROM grants g WHERE g.id > '' AND g.app = 7 ORDER BY g.id LIMIT 10`:                                                           "grants_app",
		`SELECT id FROM users WHERE issuer = 'a' AND subject = 'b'`:                                                                              "users_identity",
		`SELECT hash FROM oauth_devices WHERE expires_at < 1 ORDER BY expires_at LIMIT 10`:                                                       "oauth_devices_expiry",
		`SELECT hash FROM oauth_devices WHERE user_code = x'00' AND environment = 'a' AND state = 'b' AND expires_at > 1`:                        "oauth_devices_user_code",
	} {
		plan := queryPlan(t, s, query)
		require.Contains(t, plan, index, query)
		require.NotContains(t, plan, "TEMP B-TREE", query)
	}
}

// BenchmarkOAuth measures what an exchange asks of the store, one step at a time.
func BenchmarkOAuth(b *testing.B) {
	for _, e := range engines {
		s := e.empty(b)
		ctx := b.Context()
		a, u := testApp("a"), testUser("0")
		const users = 1000
		if err := s.Update(ctx, func(tx platform.Tx) error {
			err := tx.PutApp(ctx, a)
			for i := range users {
				err = errors.Join(err, tx.PutUser(ctx, testUser(fmt.Sprint(i))))
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		var count atomic.Int64
		next := func() (oauth.Hash, oauth.Family) {
			name := fmt.Sprint("x", count.Add(1))
			return hashOf(name), oauth.Family(name)
		}
		authorize := func() (*platform.Grant, *oauth.Code, error) {
			g := &platform.Grant{User: fmt.Sprint("usr_", count.Load()%users), AppNumber: a.Number, Environment: platform.Production, Scopes: []string{"trade"}, CreatedAt: testTime, ExpiresAt: testTime.Add(180 * day)}
			c := &oauth.Code{App: a.Number, Environment: platform.Production, User: g.User, Scopes: g.Scopes, IssuedAt: testTime, ExpiresAt: testTime.Add(time.Minute)}
			c.Hash, c.Family = next()
			return g, c, s.Authorize(ctx, g, c)
		}
		token := func(family oauth.Family, grant string) *oauth.Token {
			t := &oauth.Token{Family: family, Kind: oauth.AccessToken, Grant: grant, App: a.Number, Environment: platform.Production, User: u.ID, Scopes: []string{"trade"}, IssuedAt: testTime, ExpiresAt: testTime.Add(time.Hour)}
			t.Hash, _ = next()
			return t
		}
		g, c, err := authorize()
		if err != nil {
			b.Fatal(err)
		}
		known := token(c.Family, g.ID)
		if err := s.SaveTokens(ctx, known); err != nil {
			b.Fatal(err)
		}
		for _, step := range []struct {
			name string
			run  func() error
		}{
			{"client credentials", func() error { return s.SaveTokens(ctx, token("own", "")) }},
			{"token pair", func() error { return s.SaveTokens(ctx, token(c.Family, g.ID), token(c.Family, g.ID)) }},
			{"authorize", func() error { _, _, err := authorize(); return err }},
			{"redeem", func() error {
				_, code, err := authorize()
				if err == nil {
					_, err = s.RedeemCode(ctx, code.Hash, testTime)
				}
				return err
			}},
			{"load", func() error { _, err := s.Token(ctx, known.Hash); return err }},
		} {
			b.Run(step.name+" "+e.name, func(b *testing.B) {
				b.SetParallelism(8)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := step.run(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
