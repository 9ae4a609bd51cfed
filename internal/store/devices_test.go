package store

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// device is one that waits; its family is that which an approval opens.
func (o oauthStore) device(name string) *oauth.Device {
	return &oauth.Device{
		Hash: hashOf(name), UserCode: hashOf("user " + name), App: o.app.Number, AppKey: o.app.Key, Environment: platform.Production,
		Scopes: []string{"item", "trade"}, Resources: []string{"https://r"}, Key: "thumb", State: oauth.DevicePending,
		Family: oauth.Family("fam_" + name), IssuedAt: testTime, ExpiresAt: testTime.Add(10 * time.Minute),
	}
}

// save saves a device that waits.
func (o oauthStore) save(t *testing.T, name string) *oauth.Device {
	t.Helper()
	d := o.device(name)
	require.NoError(t, o.SaveDevice(t.Context(), d))
	return d
}

func TestDevices(t *testing.T) { onBoth(t, testDevices) }

func testDevices(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	d := o.save(t, "one")
	waiting := *d
	waiting.Family = ""
	for name, load := range map[string]func() (*oauth.Device, error){
		"by device code": func() (*oauth.Device, error) { return o.Device(ctx, hashOf("one")) },
		"by user code": func() (*oauth.Device, error) {
			return o.DeviceByUserCode(ctx, hashOf("user one"), platform.Production, d.ExpiresAt.Add(-time.Microsecond))
		},
	} {
		got, err := load()
		require.NoError(t, err, name)
		require.Equal(t, &waiting, got, name)
	}
	for name, load := range map[string]func() (*oauth.Device, error){
		"other device code": func() (*oauth.Device, error) { return o.Device(ctx, hashOf("user one")) },
		"other user code": func() (*oauth.Device, error) {
			return o.DeviceByUserCode(ctx, hashOf("one"), platform.Production, testTime)
		},
		"the other environment": func() (*oauth.Device, error) { return o.DeviceByUserCode(ctx, d.UserCode, platform.Sandbox, testTime) },
		"expired": func() (*oauth.Device, error) {
			return o.DeviceByUserCode(ctx, d.UserCode, platform.Production, d.ExpiresAt)
		},
	} {
		_, err := load()
		require.ErrorIs(t, err, platform.ErrNotFound, name)
	}
	taken := o.device("two")
	taken.UserCode = d.UserCode
	require.ErrorIs(t, o.SaveDevice(ctx, taken), platform.ErrConflict)

	// Yes: the grant is there, the tokens can be saved, and nobody answers again.
	g := o.grant("trade", "item")
	require.NoError(t, o.ApproveDevice(ctx, g, d))
	require.Equal(t, []string{"item", "trade"}, g.Scopes)
	require.Equal(t, oauth.DeviceApproved, d.State)
	require.Equal(t, []string{g.ID, g.User}, []string{d.Grant, d.User})
	got, err := o.Device(ctx, d.Hash)
	require.NoError(t, err)
	require.Equal(t, d, got)
	of, err := o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Production, testTime)
	require.NoError(t, err)
	require.Equal(t, g, of)
	_, err = o.DeviceByUserCode(ctx, d.UserCode, platform.Production, testTime)
	require.ErrorIs(t, err, platform.ErrNotFound)
	require.ErrorIs(t, o.ApproveDevice(ctx, o.grant("logistics"), d), platform.ErrConflict)
	require.ErrorIs(t, o.DenyDevice(ctx, d.Hash, testTime), platform.ErrConflict)
	of, err = o.GrantOf(ctx, o.user.ID, o.app.Number, platform.Production, testTime)
	require.NoError(t, err)
	require.Equal(t, []string{"item", "trade"}, of.Scopes, "what comes too late widens nothing")

	// No.
	denied := o.save(t, "three")
	require.NoError(t, o.DenyDevice(ctx, denied.Hash, testTime))
	require.ErrorIs(t, o.ApproveDevice(ctx, o.grant("trade"), denied), platform.ErrConflict)
	require.NoError(t, o.PollDevice(ctx, denied, testTime))
	require.Equal(t, oauth.DeviceDenied, denied.State)

	// Too late.
	late := o.save(t, "four")
	slow := o.grant("trade")
	slow.CreatedAt = late.ExpiresAt
	require.ErrorIs(t, o.ApproveDevice(ctx, slow, late), platform.ErrConflict)
	require.ErrorIs(t, o.DenyDevice(ctx, late.Hash, late.ExpiresAt), platform.ErrConflict)

	// An app takes its devices with it.
	put(t, o.Store, func(ctx context.Context, tx platform.Tx) error { return tx.DeleteApp(ctx, o.app.ID) })
	_, err = o.Device(ctx, late.Hash)
	require.ErrorIs(t, err, platform.ErrNotFound)
}

// Each device is told for itself when it asks too often.
func TestPolling(t *testing.T) { onBoth(t, testPolling) }

func testPolling(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	d, other := o.save(t, "one"), o.save(t, "two")
	at := testTime
	for i, step := range []struct {
		after time.Duration
		hasty bool
	}{
		{0, false}, // the first question
		{oauth.PollInterval, false},
		{oauth.PollInterval - oauth.PollTolerance, false}, // the network was quicker once
		{oauth.PollInterval - oauth.PollTolerance - time.Microsecond, true},
		{oauth.PollInterval, true}, // the interval is 10 seconds now
		{oauth.PollInterval + oauth.SlowDown, true},
		{oauth.PollInterval + 3*oauth.SlowDown, false},
		{oauth.PollInterval + 3*oauth.SlowDown, false},
	} {
		at = at.Add(step.after)
		require.NoError(t, o.PollDevice(t.Context(), d, at))
		require.Equal(t, step.hasty, d.Hasty, "question %d", i)
		require.Equal(t, oauth.DevicePending, d.State)
		if step.hasty {
			require.NoError(t, o.PollDevice(t.Context(), other, at))
			require.False(t, other.Hasty, "it counts for itself")
		}
	}
}

// A device code gives tokens once, and a replay takes them back.
func TestDeviceIsRedeemedOnce(t *testing.T) { onBoth(t, testDeviceIsRedeemedOnce) }

func testDeviceIsRedeemedOnce(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	d := o.save(t, "one")
	require.NoError(t, o.PollDevice(ctx, d, testTime))
	require.NoError(t, o.ApproveDevice(ctx, o.grant("trade"), o.device("one")))
	// A question that comes too early is answered too, when the answer is there.
	require.NoError(t, o.PollDevice(ctx, d, testTime))
	require.Equal(t, oauth.DeviceApproved, d.State)
	require.Equal(t, oauth.Family("fam_one"), d.Family)
	loaded, err := o.Device(ctx, d.Hash)
	require.NoError(t, err)
	require.True(t, loaded.Redeemed)
	g, err := o.Grant(ctx, d.Grant)
	require.NoError(t, err)
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "one", "at", oauth.AccessToken)))
	for range 2 {
		require.ErrorIs(t, o.PollDevice(ctx, d, testTime), oauth.ErrReplayed)
	}
	o.requireGone(t, "at")
	require.ErrorIs(t, o.SaveTokens(ctx, o.token(g, "one", "at2", oauth.AccessToken)), platform.ErrConflict)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeToken, Key: "fam_one"}}, o.changes())
	require.ErrorIs(t, o.PollDevice(ctx, o.device("none"), testTime), platform.ErrNotFound)

	// Who asks too late gets nothing, and that is no replay.
	late := o.save(t, "late")
	require.NoError(t, o.ApproveDevice(ctx, o.grant("trade"), late))
	for range 2 {
		require.NoError(t, o.PollDevice(ctx, late, late.ExpiresAt))
	}
	require.Len(t, o.changes(), 1)
}

// Of twenty that ask at once one gets the answer, and of twenty answers one
// counts; on one node and on two.
func TestDevicesInParallel(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine engineTest
		nodes  int
	}{{"sqlite", engines[0], 1}, {"postgres", engines[1], 1}, {"two nodes", engines[1], 2}} {
		t.Run(c.name, func(t *testing.T) {
			database := c.engine.database(t)
			nodes := make([]oauthStore, c.nodes)
			for i := range nodes {
				nodes[i] = openOAuthStore(t, c.engine, database)
			}
			// together runs fn twenty times at once and counts those without an error.
			together := func(fn func(o oauthStore, i int) error, refused error) (won int) {
				const parallel = 20
				errs := make([]error, parallel)
				var wg sync.WaitGroup
				begin := make(chan struct{})
				for i := range parallel {
					wg.Go(func() {
						<-begin
						errs[i] = fn(nodes[i%len(nodes)], i)
					})
				}
				close(begin)
				wg.Wait()
				for _, err := range errs {
					if err == nil {
						won++
					} else {
						require.ErrorIs(t, err, refused)
					}
				}
				return won
			}
			for round := range 25 {
				name := fmt.Sprint("device", round)
				nodes[0].save(t, name)
				require.Equal(t, 1, together(func(o oauthStore, i int) error {
					if i%2 == 0 {
						return o.DenyDevice(t.Context(), hashOf(name), testTime)
					}
					d := o.device(name)
					d.Family += oauth.Family(fmt.Sprint("/", i))
					return o.ApproveDevice(t.Context(), o.grant("trade"), d)
				}, platform.ErrConflict))

				name = "yes" + name
				d := nodes[0].save(t, name)
				require.NoError(t, nodes[0].ApproveDevice(t.Context(), nodes[0].grant("trade"), d))
				require.Equal(t, 1, together(func(o oauthStore, _ int) error {
					return o.PollDevice(t.Context(), o.device(name), testTime)
				}, oauth.ErrReplayed))
			}
		})
	}
}

// Devices that nobody wanted go, with the family that never had a token.
func TestPruneDevices(t *testing.T) { onBoth(t, testPruneDevices) }

func testPruneDevices(t *testing.T, e engineTest) {
	o := newOAuthStore(t, e)
	ctx := t.Context()
	o.save(t, "waits")
	unused, used := o.save(t, "unused"), o.save(t, "used")
	require.NoError(t, o.ApproveDevice(ctx, o.grant("trade"), unused))
	g := o.grant("trade")
	require.NoError(t, o.ApproveDevice(ctx, g, used))
	require.NoError(t, o.SaveTokens(ctx, o.token(g, "used", "rt", oauth.RefreshToken)))
	young := o.device("young")
	young.ExpiresAt = testTime.Add(time.Hour)
	require.NoError(t, o.SaveDevice(ctx, young))
	require.Equal(t, 2, o.families(t))

	n, err := o.Prune(ctx, testTime.Add(10*time.Minute))
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = o.Prune(ctx, testTime.Add(11*time.Minute))
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, 1, o.families(t))
	_, err = o.Device(ctx, young.Hash)
	require.NoError(t, err)
	_, err = o.Token(ctx, hashOf("rt"))
	require.NoError(t, err)
}
