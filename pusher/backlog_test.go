package pusher

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// newBacklogs simulates a node that begins with as many deliveries for each of as
// many endpoints, which all take as long.
func newBacklogs(t *testing.T, workers, many, each int, after time.Duration) (*fixture, *wire) {
	t.Helper()
	host := func(n int) string { return fmt.Sprint("q", n) }
	var apps []platform.Subscriber
	for n := range many {
		apps = append(apps, testApp(uint64(n)+1, to(host(n), wide)))
	}
	f, w := newSimulation(t, Settings{Workers: workers}, apps...)
	for n := range many {
		w.answer(host(n), always(reply{status: 200, after: after}))
	}
	f.publish(t, each)
	run(t, f.Pusher)
	return f, w
}

// peaks is how many requests were under way at once to an endpoint, at the most,
// since the last call.
func (w *wire) peaks() (most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.peak {
		most = max(most, n)
	}
	clear(w.peak)
	return most
}

// turns are how many deliveries claims brought, and how many endpoints they asked
// for, since the last call.
func (m *memory) turns() (claimed, asked []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	claimed, asked = m.sizes["claim"], m.sizes["asked"]
	m.sizes["claim"], m.sizes["asked"] = nil, nil
	return claimed, asked
}

// TestManyBacklogs: endpoints with a backlog share the workers, and all workers have
// something to do.
func TestManyBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each = 400, 100
		f, w := newBacklogs(t, 256, many, each, 10*time.Millisecond)
		pass(200 * time.Millisecond) // they have been found to have a backlog
		w.peaks()
		pass(many*each*10*time.Millisecond/256*5/4 - 200*time.Millisecond)
		require.Equal(t, uint64(many*each), f.Stats().Delivered)
		require.LessOrEqual(t, w.peaks(), 4)
	})
}

// TestShareOfBacklogs: more of a backlog is claimed at once than posted, which
// takes no more connections than may be kept.
func TestShareOfBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, workers = 100, 256
		f, w := newBacklogs(t, workers, many, 250, 10*time.Millisecond)
		pass(250 * time.Millisecond) // they have been found to have a backlog
		w.peaks()
		f.store.turns()
		began := len(w.all())
		pass(500 * time.Millisecond)
		require.LessOrEqual(t, w.peaks(), idleShare*workers/2/many)
		require.Greater(t, len(w.all())-began, 49*workers, "all workers have something to do")
		claimed, asked := f.store.turns()
		require.Greater(t, sum(claimed), 8*sum(asked), "of each turn")
	})
}

// TestShareOfSlowBacklogs: nothing waits on a node for an endpoint that is slow.
func TestShareOfSlowBacklogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, workers = 20, 64
		f, _ := newBacklogs(t, workers, many, 100, 500*time.Millisecond)
		pass(3 * time.Second) // they have been found to be slow, and to have a backlog
		f.store.turns()
		pass(20 * time.Second)
		claimed, asked := f.store.turns()
		require.NotEmpty(t, claimed)
		for i, n := range claimed {
			require.LessOrEqual(t, n, idleShare*workers/2/many*asked[i])
		}
	})
}

// TestFewerWorkers: what waits for a place at its endpoint is posted after a change
// to fewer workers too.
func TestFewerWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, each = 100, 20
		f, w := newBacklogs(t, 256, many, each, 10*time.Millisecond)
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

func sum(list []int) (total int) {
	for _, n := range list {
		total += n
	}
	return total
}
