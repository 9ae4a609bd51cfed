package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// fill makes a store with n apps and something in every table.
func fill(t *testing.T, s *Store, n int) {
	t.Helper()
	limits := platform.Limits{Rate: limit.Rate{Requests: 100, Period: time.Minute, Burst: 7}, Quota: limit.Quota{Day: 5, Month: 50}}
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		return putCatalog(ctx, tx, &platform.Catalog{
			Packages: []platform.Package{{Name: "basic", Title: "changed"}, {Name: "trade", Description: "交易"}},
			APIs: []platform.API{
				{Name: "a.get", Version: "1.0", Package: "trade", UserToken: true, Limits: limits, Example: platform.Example{Body: []byte("{\x00}")}, Spec: []byte(`{}`), Sunset: testTime},
				{Name: "A.get", Version: "1.0", Package: "basic"},
			},
			Plans:    []platform.Plan{{Name: "gold", App: limits, APIs: map[string]platform.Limits{"a.get": {}}}},
			IPGroups: []platform.IPGroup{{Name: "office", Rules: []platform.IPRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Note: "n"}}}, {Name: "empty"}},
			Platform: limits, Digests: map[string]string{"mall": "abc"},
		})
	})
	importTest(t, s, n)
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		a := testApp("rich")
		a.Plan = "gold"
		a.IPs = []platform.IPRule{{Group: "office"}, {Prefix: netip.MustParsePrefix("203.0.113.0/24"), Note: "网段"}}
		a.Packages = []platform.PackageGrant{{Package: "trade", Period: platform.Period{From: testTime}}}
		if err := tx.PutApp(ctx, a); err != nil {
			return err
		}
		for i := range 300 {
			if err := tx.AppendAudit(ctx, &platform.AuditEntry{At: testTime.Add(time.Duration(i) * day), Actor: "a", Action: "b", Target: "t", After: []byte(`{"a":1}`)}); err != nil {
				return err
			}
		}
		if err := errors.Join(tx.PutUser(ctx, testUser("a")), tx.PutUser(ctx, &platform.User{ID: "usr_b", Issuer: "https://idp", Subject: "s"})); err != nil {
			return err
		}
		last := testApp("gone") // its number is not given again
		return errors.Join(tx.PutApp(ctx, last), tx.DeleteApp(ctx, last.ID))
	})
	rich, err := s.App(t.Context(), "app_rich")
	require.NoError(t, err)
	o := oauthStore{Store: s, app: rich, user: testUser("a")}
	g, _ := o.authorize(t, "one", "trade")
	_, err = s.RedeemCode(t.Context(), hashOf("one"), testTime)
	require.NoError(t, err)
	require.NoError(t, s.SaveDevice(t.Context(), o.device("waits")))
	approved := o.device("approved")
	require.NoError(t, s.SaveDevice(t.Context(), approved))
	require.NoError(t, s.ApproveDevice(t.Context(), o.grant("trade"), approved))
	require.NoError(t, s.PollDevice(t.Context(), approved, testTime))
	own := o.token(g, "own", "own", oauth.AccessToken)
	own.Grant, own.User = "", ""
	require.NoError(t, s.SaveTokens(t.Context(), o.token(g, "one", "at", oauth.AccessToken), o.token(g, "one", "rt", oauth.RefreshToken), own))
	require.NoError(t, s.SaveQuotas(t.Context(), []limit.QuotaCount{{Key: limit.Key{Scope: limit.ScopeApp, App: 1 << 63}, Unit: limit.UnitDay, Start: 100, Used: 5}}))
	fillPush(t, s, rich)
}

// fillPush pushes messages to the app: some arrive, some fail, some wait.
func fillPush(t *testing.T, s *Store, a *platform.App) {
	t.Helper()
	p := &pushStore{Store: s, app: a, subs: map[string]*platform.Subscription{}}
	p.subscribe(t, a, "a", "b")
	put(t, s, func(ctx context.Context, tx platform.Tx) error {
		key := &platform.PushKey{Number: 1, Environment: platform.Production, Kind: platform.SigningKey, Secret: platform.NewSecret([]byte("whsec")), CreatedAt: testTime}
		return tx.PutPushKey(ctx, a, key)
	})
	for i := range 20 {
		p.publish(t, "a", testTime.Add(time.Duration(i)*day), func(m *pusher.Publication) {
			m.Message.Idempotency, m.Message.Data = fmt.Sprint("mine", i), bytes.Repeat([]byte{byte(i)}, 1000)
		})
		p.deliver(t, "a", []pusher.State{pusher.Delivered, pusher.Failed}[i%2])
		p.publish(t, "b", testTime)
	}
	p.job(t, pusher.Reset, pusher.Filter{Topic: "a"})
	_, _, err := p.StepJob(t.Context(), 25) // 5 of a, after 20 of b
	require.NoError(t, err)
	work := p.claim(t, "b")
	require.True(t, p.complete(t, work[0], pusher.Cancelled))
}

// hashHex is how an error names a token.
func hashHex(name string) string {
	hash := hashOf(name)
	return hex.EncodeToString(hash[:])
}

func TestCopy(t *testing.T) {
	for _, from := range engines {
		for _, to := range engines {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				n := 500
				if from.name != to.name {
					n = 20_000
				}
				source, target := from.empty(t), to.at(t, to.database(t), testKeyring(t, 9))
				fill(t, source, n)
				var last, total int
				require.NoError(t, Copy(t.Context(), source, target, func(done, of int) {
					require.Greater(t, done, last)
					last, total = done, of
				}))
				require.Equal(t, total, last)
				require.Greater(t, total, 2*5*n)

				for _, n := range []string{"0000000", fmt.Sprintf("%07d", n-1), "rich"} {
					want, err := source.AppByKey(t.Context(), "ak_"+n)
					require.NoError(t, err)
					got, err := target.AppByKey(t.Context(), "ak_"+n)
					require.NoError(t, err)
					require.Equal(t, want, got)
					requireSecret(t, target, n)
				}
				want, err := source.Catalog(t.Context())
				require.NoError(t, err)
				got, err := target.Catalog(t.Context())
				require.NoError(t, err)
				require.Equal(t, want, got)
				token, err := target.Token(t.Context(), hashOf("rt"))
				require.NoError(t, err)
				sourceToken, err := source.Token(t.Context(), hashOf("rt"))
				require.NoError(t, err)
				require.Equal(t, sourceToken, token)
				_, err = target.RedeemCode(t.Context(), hashOf("one"), testTime)
				require.ErrorIs(t, err, oauth.ErrReplayed)
				for _, name := range []string{"waits", "approved"} {
					sourceDevice, err := source.Device(t.Context(), hashOf(name))
					require.NoError(t, err)
					device, err := target.Device(t.Context(), hashOf(name))
					require.NoError(t, err)
					require.Equal(t, sourceDevice, device)
				}
				user, err := target.UserByLogin(t.Context(), "login_a")
				require.NoError(t, err)
				require.Equal(t, testUser("a"), user)
				entries, err := target.Audit(t.Context(), platform.AuditFilter{Limit: 1})
				require.NoError(t, err)
				for _, s := range []*Store{source, target} {
					next := testApp("next")
					putApps(t, s, next)
					require.EqualValues(t, n+3, next.Number)
					entry := platform.AuditEntry{At: testTime, Actor: "a", Action: "b", Target: "t"}
					put(t, s, func(ctx context.Context, tx platform.Tx) error { return tx.AppendAudit(ctx, &entry) })
					require.Equal(t, entries[0].ID+1, entry.ID)
				}
				requirePushCopied(t, source, target)
				err = Copy(t.Context(), source, target, nil)
				require.ErrorIs(t, err, platform.ErrConflict)
				require.ErrorContains(t, err, "want a new database")
			})
		}
	}
}

// requirePushCopied goes on with deliveries and jobs where the source stopped.
func requirePushCopied(t *testing.T, source, target *Store) {
	t.Helper()
	want, err := source.Deliveries(t.Context(), pusher.Filter{}, pusher.Cursor{}, 1000)
	require.NoError(t, err)
	got, err := target.Deliveries(t.Context(), pusher.Filter{}, pusher.Cursor{}, 1000)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Len(t, got, 20+20+5)
	read := func(s *Store) (body []byte, attempts []pusher.Attempt, secret string) {
		body, _, err := s.Body(t.Context(), want[len(want)-1].ID)
		require.NoError(t, err)
		attempts, err = s.Attempts(t.Context(), want[len(want)-1].ID)
		require.NoError(t, err)
		require.NoError(t, s.view(t.Context(), func(r *reader) error {
			keys, err := r.PushKeys(t.Context(), "app_rich")
			require.Len(t, keys, 1)
			secret = string(keys[0].Secret.Reveal())
			return err
		}))
		return body, attempts, secret
	}
	body, attempts, secret := read(source)
	copiedBody, copiedAttempts, copiedSecret := read(target)
	require.Equal(t, body, copiedBody)
	require.Equal(t, attempts, copiedAttempts)
	require.Equal(t, []string{"whsec", "whsec"}, []string{secret, copiedSecret})
	for _, s := range []*Store{source, target} {
		job, subs, err := s.StepJob(t.Context(), 100)
		require.NoError(t, err)
		require.Equal(t, pusher.JobDone, job.State)
		require.EqualValues(t, 20, job.Done)
		r, err := s.Claim(t.Context(), pusher.Claim{Node: "n", Lease: time.Hour, Endpoints: []pusher.Endpoint{{Subscription: subs[0], Room: 100, Concurrency: 100}}})
		require.NoError(t, err)
		require.Len(t, r.Work, 20)
		require.EqualValues(t, 60, r.Work[19].ID.ID, "numbers go on")
	}
}

// A copy that is broken off, wherever, leaves a target that is as new.
func TestCopyBrokenOff(t *testing.T) {
	onBoth(t, func(t *testing.T, e engineTest) {
		source, target := engines[0].empty(t), e.empty(t)
		fill(t, source, 2000)
		for _, share := range []int{10, 50, 75, 99} {
			ctx, cancel := context.WithCancel(t.Context())
			err := Copy(ctx, source, target, func(done, total int) {
				if done*100 >= total*share {
					cancel()
				}
			})
			require.ErrorIs(t, err, context.Canceled, share)
			n, err := target.CountApps(t.Context())
			require.NoError(t, err)
			require.Zero(t, n)
		}
		require.NoError(t, Copy(t.Context(), source, target, nil))
		requireSecret(t, target, "rich")
	})
}

// Whatever differs is found, and named by table and key.
func TestCompareFindsADifference(t *testing.T) {
	source, target := engines[0].empty(t), engines[1].empty(t)
	fill(t, source, 3)
	require.NoError(t, Copy(t.Context(), source, target, nil))
	errDone := errors.New("done")
	for change, want := range map[string]string{
		`SELECT 1`: "",
		`UPDATE packages SET title = 'x' WHERE name = 'trade'`:                   "table packages, row name=trade, column title",
		`UPDATE apps SET plan = NULL WHERE id = 'app_rich'`:                      "table apps, row number=4, column plan",
		`DELETE FROM app_ips WHERE position = 1`:                                 "table app_ips lacks the row app=4 position=1 in the target",
		`INSERT INTO app_dialects (app, dialect, method) VALUES (2, 'zz', '')`:   "table app_dialects has the row app=2 dialect=zz only in the target",
		`UPDATE app_credentials SET expires_at = 1 WHERE app = 3 AND number = 3`: "table app_credentials, row app=3 number=3, column expires_at",
		`UPDATE app_packages SET valid_from = NULL`:                              "table app_packages, row app=4 package=trade, column valid_from",
		`UPDATE apis SET user_token = false`:                                     "table apis, row name=a.get version=1.0, column user_token",
		`UPDATE apis SET example_body = 'x'`:                                     "column example_body",
		`UPDATE limits SET rate_burst = 8 WHERE scope = 'platform'`:              "table limits, row scope=platform owner= api=, column rate_burst",
		`DELETE FROM plans WHERE name = 'none'`:                                  "",
		`UPDATE catalog_digests SET digest = 'x'`:                                "table catalog_digests, row source=mall, column digest",
		`UPDATE audit SET after_json = NULL WHERE id = 250`:                      "table audit, row id=250, column after_json",
		`UPDATE quota_counts SET used = used + 1`:                                "table quota_counts",
		`UPDATE ip_group_rules SET note = ''`:                                    "table ip_group_rules, row group_name=office position=0, column note",
		`INSERT INTO ip_groups (name) VALUES ('a')`:                              "table ip_groups has the row name=a only in the target",
		`UPDATE apps SET oauth = NULL WHERE number = 4`:                          "table apps, row number=4, column oauth",
		`UPDATE users SET password = 'x' WHERE id = 'usr_a'`:                     "table users, row id=usr_a, column password",
		`UPDATE oauth_tokens SET expires_at = 1 WHERE user_id IS NULL`:           "table oauth_tokens, row hash=" + hashHex("own") + ", column expires_at",
		`UPDATE oauth_devices SET polled_at = 1 WHERE state = 'pending'`:         "table oauth_devices, row hash=" + hashHex("waits") + ", column polled_at",
		`DELETE FROM oauth_families WHERE id = 'fam_one'`:                        "table oauth_families lacks the row id=fam_one",
		`UPDATE oauth_codes SET redeemed_at = NULL`:                              "column redeemed_at",
		`UPDATE grants SET revoked_at = 1`:                                       "column revoked_at",
		`UPDATE topics SET user_token = true WHERE name = 'b'`:                   "table topics, row name=b, column user_token",
		`UPDATE subscriptions SET status = 'paused' WHERE number = 2`:            "table subscriptions, row number=2, column status",
		`DELETE FROM subscription_topics WHERE topic = 'a'`:                      "table subscription_topics lacks the row app=4 environment=production topic=a",
		`UPDATE push_keys SET number = 2`:                                        "push_key 2 of app app_rich",
		`UPDATE push_messages SET data = 'x' WHERE topic = 'a'`:                  "table push_messages",
		`UPDATE push_idempotency SET digest = 'x'`:                               "table push_idempotency, row environment=production key=mine0, column digest",
		`UPDATE push_deliveries SET fence = 9 WHERE id = 2`:                      "column fence",
		`DELETE FROM push_failed`:                                                "table push_failed lacks the row",
		`UPDATE push_queue SET held = true`:                                      "column held",
		`UPDATE push_payloads SET body = 'x' WHERE id = 3`:                       "id=3, column body",
		`UPDATE push_attempts SET error = 'x'`:                                   "column error",
		`UPDATE push_jobs SET cursor_id = 8`:                                     "column cursor_id",
		`SELECT setval('push_deliveries_id_seq', 99)`:                            "the last number of push_deliveries is 45 in the source and 99 in the target",
		`SELECT setval('apps_number_seq', 99)`:                                   "the last number of apps is 5 in the source and 99 in the target",
		`UPDATE app_credentials SET secret = (SELECT secret FROM app_credentials WHERE app = 2 AND number = 1) WHERE app = 1 AND number = 1`: "credential 1 of app app_0000000",
	} {
		err := source.view(t.Context(), func(r *reader) error {
			return target.update(t.Context(), nil, func(t *tx) error {
				if _, err := t.exec(context.Background(), change); err != nil {
					return err
				}
				if err := compare(context.Background(), r, &t.reader, func(int) {}); err != nil {
					return err
				}
				return errDone
			})
		})
		if want == "" {
			require.ErrorIs(t, err, errDone, change)
		} else {
			require.ErrorContains(t, err, want, change)
		}
		require.NoError(t, target.update(t.Context(), nil, func(t *tx) error {
			return errors.Join(t.setCounter(context.Background(), "apps", 5), t.setCounter(context.Background(), "push_deliveries", 45))
		}))
	}
	// The same secret under another key is the same; another secret is not.
	other := testApp("0000001")
	other.Number, other.Credentials[0].Secret = 2, platform.NewSecret([]byte("another"))
	putApps(t, target, other)
	err := source.view(t.Context(), func(r *reader) error {
		return target.view(t.Context(), func(o *reader) error { return compare(t.Context(), r, o, func(int) {}) })
	})
	require.ErrorContains(t, err, "table app_credentials, row app=2 number=1, column secret")
	require.NotContains(t, err.Error(), "another")
}

// Every table of the schema is copied, or known not to be.
func TestCopyKnowsEveryTable(t *testing.T) {
	s := engines[1].empty(t)
	known := map[string]bool{"goose_db_version": true, "master_keys": true, "changes": true}
	columns := map[string]int{}
	for _, table := range copyTables {
		known[table.name] = true
		columns[table.name] = len(table.columns)
	}
	columns["app_credentials"]-- // the app's ID is of the app
	columns["push_keys"]--
	rows, err := s.readers.Query(`SELECT c.relname, count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var name string
		var n int
		require.NoError(t, rows.Scan(&name, &n))
		require.True(t, known[name], "table %s is not copied", name)
		if want, ok := columns[name]; ok {
			require.Equal(t, want, n, "a column of %s is not copied", name)
		}
	}
	require.NoError(t, rows.Err())
}

func BenchmarkCopy(b *testing.B) {
	const n = 20_000
	for _, to := range engines {
		b.Run("sqlite to "+to.name, func(b *testing.B) {
			source := engines[0].empty(b)
			importTest(b, source, n)
			for b.Loop() {
				if err := Copy(b.Context(), source, to.empty(b), nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "apps/s")
		})
	}
}
