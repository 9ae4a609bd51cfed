package pusher

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestManyBacklogs: endpoints with a backlog share the workers, and all workers have
// something to do.
func TestManyBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each = 400, 100
		var apps []platform.Subscriber
		for n := range uint64(many) {
			apps = append(apps, testApp(n+1, to(fmt.Sprint("q", n), wide)))
		}
		f, w := newSimulation(t, Settings{Workers: 256}, apps...)
		for n := range many {
			w.answer(fmt.Sprint("q", n), always(reply{status: 200, after: 10 * time.Millisecond}))
		}
		f.publish(t, each)
		run(t, f.Pusher)
		pass(200 * time.Millisecond) // they have been found to have a backlog
		w.mu.Lock()
		clear(w.peak)
		w.mu.Unlock()
		pass(many*each*10*time.Millisecond/256*5/4 - 200*time.Millisecond)
		require.Equal(t, uint64(many*each), f.Stats().Delivered)
		for n := range many {
			require.LessOrEqual(t, w.most(fmt.Sprint("q", n)), 4)
		}
	})
}

// TestShareOfBacklogs: more of a backlog is claimed at once than posted, which
// takes no more connections than may be kept.
func TestShareOfBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each, workers = 100, 200, 256
		var apps []platform.Subscriber
		for n := range uint64(many) {
			apps = append(apps, testApp(n+1, to(fmt.Sprint("q", n), wide)))
		}
		f, w := newSimulation(t, Settings{Workers: workers}, apps...)
		for n := range many {
			w.answer(fmt.Sprint("q", n), always(reply{status: 200, after: 10 * time.Millisecond}))
		}
		f.publish(t, each)
		run(t, f.Pusher)
		pass(100 * time.Millisecond) // they have been found to have a backlog
		w.mu.Lock()
		clear(w.peak)
		w.mu.Unlock()
		f.store.mu.Lock()
		claims := len(f.store.sizes["claim"])
		f.store.mu.Unlock()
		began := len(w.all())
		pass(500 * time.Millisecond)
		for n := range many {
			require.LessOrEqual(t, w.most(fmt.Sprint("q", n)), idleShare*workers/2/many)
		}
		require.Greater(t, len(w.all())-began, 49*workers, "all workers have something to do")
		claimed, asked := 0, 0
		f.store.mu.Lock()
		for i, n := range f.store.sizes["claim"][claims:] {
			claimed, asked = claimed+n, asked+f.store.sizes["asked"][claims+i]
		}
		f.store.mu.Unlock()
		require.Greater(t, claimed, 8*asked, "of each turn")
	})
}

// TestShareOfSlowBacklogs: nothing waits on a node for an endpoint that is slow.
func TestShareOfSlowBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each, workers = 20, 100, 64
		var apps []platform.Subscriber
		for n := range uint64(many) {
			apps = append(apps, testApp(n+1, to("slow", wide)))
		}
		f, w := newSimulation(t, Settings{Workers: workers}, apps...)
		w.answer("slow", always(reply{status: 200, after: 500 * time.Millisecond}))
		f.publish(t, each)
		run(t, f.Pusher)
		pass(3 * time.Second) // they have been found to be slow, and to have a backlog
		f.store.mu.Lock()
		before := len(f.store.sizes["claim"])
		f.store.mu.Unlock()
		pass(20 * time.Second)
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		claims := f.store.sizes["claim"][before:]
		require.NotEmpty(t, claims)
		for i, n := range claims {
			require.LessOrEqual(t, n, idleShare*workers/2/many*f.store.sizes["asked"][before+i])
		}
	})
}

// TestFewerWorkers: what waits for a place at its endpoint is posted after a change
// to fewer workers too.
func TestFewerWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each = 100, 20
		var apps []platform.Subscriber
		for n := range uint64(many) {
			apps = append(apps, testApp(n+1, to(fmt.Sprint("q", n), wide)))
		}
		f, w := newSimulation(t, Settings{Workers: 256}, apps...)
		for n := range many {
			w.answer(fmt.Sprint("q", n), always(reply{status: 200, after: 10 * time.Millisecond}))
		}
		f.publish(t, each)
		run(t, f.Pusher)
		pass(50 * time.Millisecond)
		require.Less(t, len(w.all()), many*each)
		fewer := f.current.Load().Settings
		fewer.Workers = 16
		require.NoError(t, f.Configure(fewer))
		pass(5 * time.Second) // less than a lease
		require.Equal(t, uint64(many*each), f.Stats().Delivered)
		require.Len(t, w.all(), many*each)
	})
}
