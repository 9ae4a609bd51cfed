package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// defaultConcurrency is how many requests to a subscription are under way at
// once, unless it says otherwise.
const defaultConcurrency = 16

// publishers are services that publish orders without a pause, unless they are far
// ahead. What is not acknowledged they publish again, with the same id, until it is.
type publishers struct {
	stop chan struct{}
	work sync.WaitGroup

	mu sync.Mutex
	// acknowledged are the ids of messages by the orders that they are about.
	acknowledged map[string]string
	refusals     []string
	// patient: a store that is not there is no refusal, but told of here.
	patient chan struct{}
}

// publishing starts so many publishers; their orders begin with prefix.
func (p *pushing) publishing(prefix string, count int) *publishers {
	s := &publishers{stop: make(chan struct{}), acknowledged: map[string]string{}}
	s.start(p, prefix, count)
	return s
}

// publishingPatiently is publishing through times in which the store is away.
func (p *pushing) publishingPatiently(prefix string, count int) *publishers {
	s := &publishers{stop: make(chan struct{}), acknowledged: map[string]string{}, patient: make(chan struct{}, 1)}
	s.start(p, prefix, count)
	return s
}

func (s *publishers) start(p *pushing, prefix string, count int) {
	for i := range count {
		s.work.Go(func() {
			for number := 0; ; number++ {
				select {
				case <-s.stop:
					return
				case p.inbox.ahead <- struct{}{}:
				}
				s.insist(p.node, p.user, fmt.Sprintf("%s-%d-%d", prefix, i, number))
			}
		})
	}
}

// awaitRefusal waits until a message is refused since the store is away.
func (s *publishers) awaitRefusal(t *testing.T) {
	t.Helper()
	select {
	case <-s.patient:
	case <-time.After(patience):
		require.FailNow(t, "messages are accepted all the time")
	}
}

// insist publishes an order until it is acknowledged, or refused.
func (s *publishers) insist(n *node, user, id string) {
	m := order(user, id)
	m["id"] = id
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		status, body, err := n.tryPublish(m)
		if err != nil && time.Now().Before(deadline) {
			continue // nobody listens, or the connection broke
		}
		if s.patient != nil && status == http.StatusServiceUnavailable && bytes.Contains(body, []byte("store_unavailable")) && time.Now().Before(deadline) {
			select {
			case s.patient <- struct{}{}:
			default:
			}
			continue
		}
		var a accepted
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil || status != http.StatusAccepted || json.Unmarshal(body, &a) != nil || a.Deliveries != 1 && !a.Duplicate {
			s.refusals = append(s.refusals, fmt.Sprintf("%s: %d %s %v", id, status, body, err))
			return
		}
		s.acknowledged[id] = a.ID
		return
	}
}

// end stops the publishers once what they are at is acknowledged, and returns
// what was.
func (s *publishers) end(t *testing.T) map[string]string {
	t.Helper()
	close(s.stop)
	s.work.Wait()
	require.Empty(t, s.refusals)
	return s.acknowledged
}

// drained waits until everything that was acknowledged has arrived and is
// recorded, and returns how many arrivals there were too many.
func (p *pushing) drained(acknowledged map[string]string) (duplicates int) {
	p.t.Helper()
	require.NotEmpty(p.t, acknowledged)
	missing, looked := map[string]bool{}, 0
	for _, message := range acknowledged {
		missing[message] = true
	}
	// Each arrival is looked at once: there are many after many kills.
	p.inbox.await("all that was acknowledged arrives", func(got []arrived) error {
		for ; looked < len(got); looked++ {
			delete(missing, got[looked].ID)
		}
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d have not arrived", len(missing), len(acknowledged))
		}
		return nil
	})
	eventually(p.t, "nothing is left", func() error {
		if left := p.deliveries("--state", "pending,delivering,failed,suspended,cancelled"); len(left) > 0 {
			return fmt.Errorf("%d, the first is %+v", len(left), left[0])
		}
		return nil
	})
	got := p.inbox.arrivals()
	messages := map[string]string{}
	for _, m := range got {
		var data struct {
			Order string `json:"order_id"`
		}
		require.NoError(p.t, json.Unmarshal(m.Event.Data, &data))
		if messages[data.Order] == "" {
			messages[data.Order] = m.ID
		}
		require.Equal(p.t, messages[data.Order], m.ID, "an order that was published again is the same message")
	}
	return len(got) - distinct(got)
}

// gate holds back the answers of an inbox.
type gate struct {
	held chan struct{} // one for each message that waits for its answer
	open chan struct{}
	once sync.Once
}

// release opens the gate.
func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// shut has the inbox answer no more, until the gate is opened.
func (b *inbox) shut() *gate {
	g := &gate{held: make(chan struct{}, 1000), open: make(chan struct{})}
	b.t.Cleanup(g.release)
	b.answers(func(w http.ResponseWriter, _ *arrived) {
		g.held <- struct{}{}
		<-g.open
		w.WriteHeader(http.StatusNoContent)
	})
	return g
}

// await waits until so many messages wait for their answers.
func (g *gate) await(t *testing.T, count int) {
	t.Helper()
	deadline := time.After(patience)
	for i := range count {
		select {
		case <-g.held:
		case <-deadline:
			require.FailNow(t, "too few messages come", "%d of %d", i, count)
		}
	}
}

// leasesEnd waits until nothing belongs any more to a process that was killed:
// until then fewer requests than usual are under way.
func (p *pushing) leasesEnd() {
	p.t.Helper()
	first := map[string]bool{}
	for _, d := range p.deliveries("--state", "delivering", "--limit", "1000") {
		first[d.ID] = true
	}
	eventually(p.t, "leases end", func() error {
		for _, d := range p.deliveries("--state", "delivering", "--limit", "1000") {
			if first[d.ID] {
				return fmt.Errorf("%s is still under way", d.ID)
			}
		}
		return nil
	})
}

// TestPushKilled kills the server while messages are published and pushed:
// nothing that was acknowledged is lost, and what comes twice was under way.
func TestPushKilled(t *testing.T) {
	onStores(t, func(t *testing.T, storage string) {
		p := startPushing(t, pushConfig(storage, "timeout 2s\nlease 7s\nschedule 1s 1s 1s 1s 1s 1s 1s 1s"))
		s := p.publishing("killed", 3)
		for round := range kills {
			p.inbox.awaitCount(len(p.inbox.arrivals()) + 60)
			if round%2 == 1 {
				// Requests that have come and are not answered.
				p.leasesEnd()
				g := p.inbox.shut()
				g.await(t, defaultConcurrency)
				p.kill()
				g.release()
				p.inbox.answers(nil)
			} else {
				p.kill()
			}
			p.run()
		}
		p.inbox.awaitCount(len(p.inbox.arrivals()) + 60)
		acknowledged := s.end(t)
		duplicates := p.drained(acknowledged)
		t.Logf("%d messages, %d arrived twice after %d kills", len(acknowledged), duplicates, kills)
		require.LessOrEqual(t, duplicates, kills*defaultConcurrency)
		require.GreaterOrEqual(t, duplicates, defaultConcurrency, "those that were held came again")
	})
}
