package pusher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestParkedIsLetOut: two endpoints wait for the place that a third one has. When it
// is free the first of them does not take it, and the other one does.
func TestParkedIsLetOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Workers: 1}, testApp(1, to("slow")), testApp(2, to("paused")), testApp(3, to("good")))
		w.answer("slow", always(reply{status: 200, after: 2 * time.Second}))
		run(t, f.Pusher)
		synctest.Wait()
		for n := range uint64(3) {
			f.publishTo(t, n+1)
			synctest.Wait()
		}
		f.store.put(testApp(2, to("paused", func(s *platform.Subscription) { s.Status = platform.Paused })))
		require.NoError(t, f.Apply(t.Context(), platform.Change{Kind: platform.ChangePush, Key: "2"}))
		pass(3 * time.Second)
		require.Len(t, w.to("slow"), 1)
		require.Len(t, w.to("good"), 1)
		require.Empty(t, w.to("paused"))
	})
}

// TestParkedAndMoreWorkers: more workers are room too.
func TestParkedAndMoreWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{Workers: 1}, testApp(1, to("slow")), testApp(2, to("good")))
		w.answer("slow", always(reply{status: 200, after: time.Hour}))
		run(t, f.Pusher)
		synctest.Wait()
		f.publishTo(t, 1)
		synctest.Wait()
		f.publishTo(t, 2)
		pass(time.Second)
		require.Empty(t, w.to("good"))
		require.NoError(t, f.Configure(Settings{Workers: 8}))
		pass(time.Second)
		require.Len(t, w.to("good"), 1)
	})
}
