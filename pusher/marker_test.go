package pusher

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMarkOfADeletedSubscription is given up.
func TestMarkOfADeletedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
		w.answer("a", func(n int, _ *post) reply {
			if n == notedAfter {
				f.store.put(testApp(1))
			}
			return reply{status: 500}
		})
		stop := run(t, f.Pusher)
		f.publish(t, 1)
		pass(time.Hour)
		stop()
		require.Len(t, w.to("a"), notedAfter)
		require.Equal(t, 1, f.store.count("mark"))
		require.Empty(t, f.problems)
	})
}

// TestMarkThatFails: it is tried again while the store is down, and not where the
// store refuses it.
func TestMarkThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		fails func(*memory)
		noted bool // later
	}{
		"the store is down": {func(m *memory) { m.down(time.Now().Add(time.Minute), "mark") }, true},
		"it is refused": {func(m *memory) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.fail = func(call string) error {
				if call == "mark" {
					return errors.New("a value that no column takes")
				}
				return nil
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, w := newSimulation(t, Settings{}, testApp(1, to("a")))
				w.answer("a", always(reply{status: 500}))
				stop := run(t, f.Pusher)
				f.publish(t, notedAfter)
				c.fails(f.store)
				pass(2 * time.Minute)
				stop()
				require.Equal(t, c.noted, len(f.problems) > 1, "tried again")
				require.Equal(t, c.noted, !f.store.look(10).FailingSince.IsZero())
			})
		})
	}
}
