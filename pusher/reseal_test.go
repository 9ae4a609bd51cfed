package pusher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestRotation: while two keys live both sign, the newest encrypts; what was
// encrypted with a key that has ended is made anew.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := testApp(1, to("a"))
		f, w := newSimulation(t, Settings{}, app)
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Second)
		require.Regexp(t, `^v1,\S+$`, w.all()[0].signatures)
		stop()

		// Both keys are replaced; the former ones end in an hour.
		f.Pusher = f.another(t, Settings{})
		connect(t, f.Pusher, w)
		end := time.Now().Add(time.Hour)
		w.answer("a", func(int, *post) reply {
			if time.Now().Before(end) {
				return reply{status: 404}
			}
			return reply{status: 200}
		})
		f.publish(t, 1) // with the former key
		for i := range app.Keys {
			app.Keys[i].ExpiresAt = end
		}
		app.Keys = append(
			app.Keys,
			platform.PushKey{Number: 7, Environment: platform.Production, Kind: platform.EncryptionKey, Secret: platform.NewSecret(testKey(7))},
			platform.PushKey{Number: 8, Environment: platform.Production, Kind: platform.SigningKey, Secret: platform.NewSecret(testKey(8))},
		)
		f.store.put(app)
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangeApp, Key: "ak_1"}))
		run(t, f.Pusher)
		pass(time.Minute)
		second := w.all()[1]
		require.Regexp(t, `^v1,\S+ v1,\S+$`, second.signatures)
		_, err := Decrypt(testKey(1), second.body)
		require.NoError(t, err, "the key that encrypted it lives still")
		f.publish(t, 1)
		pass(time.Second)
		third := w.all()[len(w.all())-1]
		_, err = Decrypt(testKey(7), third.body)
		require.NoError(t, err, "the newest key encrypts")

		pass(24 * time.Hour)
		last := w.all()[len(w.all())-1]
		for _, p := range w.all() {
			if p.message == second.message {
				last = p
			}
		}
		require.Regexp(t, `^v1,\S+$`, last.signatures)
		plain, err := Decrypt(testKey(7), last.body)
		require.NoError(t, err)
		require.Contains(t, string(plain), second.message)
		require.Equal(t, 7, f.store.rows[2].keyNumber, "the record has what was posted")
		again, err := f.Reseal(t.Context(), 1, f.store.rows[1].message, f.store.rows[1].body, f.store.rows[1].keyNumber)
		require.NoError(t, err)
		_, err = Decrypt(testKey(7), again)
		require.NoError(t, err)
		same, err := f.Reseal(t.Context(), 1, f.store.rows[2].message, f.store.rows[2].body, 7)
		require.NoError(t, err)
		require.Equal(t, f.store.rows[2].body, same)
	})
}

// TestWithoutKeys: a message is accepted, and waits for keys; each attempt says
// what is missing.
func TestWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := testApp(1, to("a"))
		bare := app
		bare.Keys = nil
		f, w := newSimulation(t, Settings{}, bare)
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Minute)
		require.Empty(t, w.all())
		require.Equal(t, Pending, f.store.state(1))
		require.Equal(t, ClassKey, f.store.tried(1)[0].Class)
		require.Empty(t, f.store.marked(), "the endpoint is not to blame")
		tried := len(f.store.tried(1))
		f.store.down(time.Now().Add(10*time.Minute), "original")
		f.store.put(app)
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "1"}))
		pass(10 * time.Minute)
		require.Len(t, f.store.tried(1), tried, "an original that the store does not give uses up no attempt")
		require.LessOrEqual(t, f.store.count("original"), tried+int(10*time.Minute/storePause))
		pass(time.Hour)
		require.Len(t, w.all(), 1)
		_, err := Decrypt(testKey(1), w.all()[0].body)
		require.NoError(t, err)
	})
}

// TestOriginalIsGone: a delivery whose body is to be made anew, and whose message is
// no longer kept, fails as others do, and says why.
func TestOriginalIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := testApp(1, to("a"))
		bare := app
		bare.Keys = nil
		f, w := newSimulation(t, Settings{Schedule: []time.Duration{time.Minute}}, bare)
		f.publish(t, 1)
		clear(f.store.messages)
		f.store.put(app)
		require.NoError(t, f.Reload(t.Context()))
		run(t, f.Pusher)
		pass(time.Hour)
		require.Empty(t, w.all())
		require.Equal(t, Failed, f.store.state(1))
		require.Len(t, f.store.tried(1), 2)
		require.Equal(t, ClassKey, f.store.tried(1)[0].Class)
		require.Contains(t, f.store.tried(1)[0].Error, "the original")
	})
}

// TestEndedKeys: a key that has ended encrypts nothing any more, be it the newest.
func TestEndedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := testApp(1, to("a"))
		app.Keys = append(app.Keys, platform.PushKey{
			Number: 7, Environment: platform.Production, Kind: platform.EncryptionKey, Secret: platform.NewSecret(testKey(7)), ExpiresAt: time.Now(),
		})
		f, w := newSimulation(t, Settings{}, app)
		run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Second)
		_, err := Decrypt(testKey(1), w.all()[0].body)
		require.NoError(t, err)

		app.Keys[0].ExpiresAt = time.Now()
		f.store.put(app)
		require.NoError(t, f.Reload(t.Context()))
		f.publish(t, 1)
		pass(time.Second)
		require.Len(t, w.all(), 1)
		require.Equal(t, ClassKey, f.store.tried(2)[0].Class)
	})
}

// TestFormatChanges: nothing goes out plain that is to be encrypted, and the
// reverse.
func TestFormatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := func(s *platform.Subscription) { s.Format = platform.PlainFormat }
		f, w := newSimulation(t, Settings{}, testApp(1, to("a", plain)), testApp(2, to("b")))
		f.publish(t, 1)
		f.store.put(testApp(1, to("a")), testApp(2, to("b", plain)))
		require.NoError(t, f.Reload(t.Context()))
		run(t, f.Pusher)
		pass(time.Second)
		a, b := w.to("a")[0], w.to("b")[0]
		require.True(t, a.encrypted)
		_, err := Decrypt(testKey(1), a.body)
		require.NoError(t, err)
		require.False(t, b.encrypted)
		require.Contains(t, string(b.body), `"appkey":"ak_2","data":{"id":1}}`)
	})
}
