package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// What an app would not get now it does not get again by a job either, unless staff
// push it by hand. What a merchant has withdrawn it does not get even then.
func TestJobsOfWhatAppsMayGet(t *testing.T) { onBoth(t, testJobsOfWhatAppsMayGet) }

func testJobsOfWhatAppsMayGet(t *testing.T, e engineTest) {
	for _, cause := range []pusher.Cause{pusher.Repush, pusher.Reset, pusher.Manual} {
		t.Run(cause.String(), func(t *testing.T) {
			topics := []string{"basic", "held", "limited", "left", "moved", "revoked", "expired", "later", "authorized", "withdrawn"}
			p := newPushStore(t, e.empty(t), topics...)
			made := map[string]pusher.DeliveryID{}
			for _, topic := range topics {
				grant := map[string]string{"authorized": "live", "withdrawn": "gone"}[topic]
				made[topic] = p.publish(t, topic, testTime, func(m *pusher.Publication) { m.Deliveries[0].Grant = grant })
				p.deliver(t, topic, pusher.Failed)
			}
			now := time.Now()
			p.app.Packages = []platform.PackageGrant{
				{Package: "held"},
				{Package: "limited", Period: platform.Period{From: now.Add(-time.Hour), Until: now.Add(time.Hour)}},
				{Package: "expired", Period: platform.Period{Until: now.Add(-time.Hour)}},
				{Package: "later", Period: platform.Period{From: now.Add(time.Hour)}},
			}
			other := testApp("other") // has what was taken from the app
			other.Packages = []platform.PackageGrant{{Package: "revoked"}}
			left, moved := p.subs["left"], p.subs["moved"]
			left.Topics, moved.Topics = []string{"elsewhere"}, []string{"anywhere"}
			receives := testSubscription(p.app, "sub_receives", "moved") // the topic, instead of the other one
			put(t, p.Store, func(ctx context.Context, tx platform.Tx) error {
				var errs []error
				for _, name := range []string{"held", "limited", "revoked", "expired", "later"} {
					errs = append(errs, tx.PutPackage(ctx, &platform.Package{Name: name}),
						tx.PutTopic(ctx, &platform.Topic{Name: name, Package: name, Status: platform.Online}))
				}
				return errors.Join(append(errs,
					tx.PutTopic(ctx, &platform.Topic{Name: "elsewhere", Package: platform.BasicPackage, Status: platform.Online}),
					tx.PutTopic(ctx, &platform.Topic{Name: "anywhere", Package: platform.BasicPackage, Status: platform.Online}),
					tx.PutApp(ctx, p.app), tx.PutApp(ctx, other), tx.PutSubscription(ctx, left), tx.PutSubscription(ctx, moved), tx.PutSubscription(ctx, receives),
					tx.PutUser(ctx, &platform.User{ID: "u1", Login: "u1", Status: platform.UserActive, CreatedAt: testTime, UpdatedAt: testTime}))...)
			})
			_, err := p.writer.Exec(p.engine.bind(`INSERT INTO grants (id, user_id, app, environment, scopes, created_at, expires_at)
				VALUES ('live', 'u1', ?, 'production', '[]', 1, ?)`), int64(p.app.Number), now.Add(time.Hour).UnixMicro())
			require.NoError(t, err)

			j := p.job(t, cause, pusher.Filter{App: p.app.Number})
			_, last := p.run(t, 3)
			var got []string
			for _, topic := range topics {
				live, err := p.Deliveries(t.Context(), pusher.Filter{Topic: topic, States: []pusher.State{pusher.Pending}}, pusher.Cursor{}, 10)
				require.NoError(t, err)
				if len(live) > 0 {
					got = append(got, topic)
				}
			}
			want := []string{"basic", "held", "limited", "authorized"}
			if cause == pusher.Manual {
				want = topics[:len(topics)-1]
			}
			require.Equal(t, want, got)
			require.EqualValues(t, len(want), j.Total)
			require.EqualValues(t, len(want), last.Done)

			require.NoError(t, p.PushAgain(t.Context(), made["revoked"]))
			require.NoError(t, p.PushAgain(t.Context(), made["authorized"]))
			err = p.PushAgain(t.Context(), made["withdrawn"])
			require.ErrorIs(t, err, platform.ErrConflict)
			require.ErrorContains(t, err, "the merchant's authorization under which it was made has ended")
			require.Equal(t, pusher.Failed, p.state(t, made["withdrawn"]))
		})
	}
}
