package pusher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// markTimeout bounds one note in the store.
const markTimeout = 5 * time.Second

// marker notes in the store how endpoints do: the last word about each, or the final
// one.
type marker struct {
	kick chan struct{}

	mu    sync.Mutex
	marks map[uint64]mark
}

func newMarker() *marker {
	return &marker{kick: make(chan struct{}, 1), marks: make(map[uint64]mark)}
}

// add takes a mark.
func (m *marker) add(k mark) {
	m.mu.Lock()
	if k.final() || !m.marks[k.subscription].final() {
		m.marks[k.subscription] = k
	}
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// again takes a mark back that could not be noted, unless a later one came.
func (m *marker) again(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, later := m.marks[k.subscription]; k.final() || !later {
		m.marks[k.subscription] = k
	}
}

func (m *marker) take() (k mark, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, k := range m.marks {
		delete(m.marks, n)
		return k, true
	}
	return mark{}, false
}

// mark notes marks until ctx ends. While the store cannot be reached it tries
// again; nothing else that went wrong goes right the next time.
func (p *Pusher) mark(ctx context.Context) {
	pause := time.Duration(0)
	for {
		k, ok := p.marker.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-p.marker.kick:
			}
			continue
		}
		err := p.note(ctx, k)
		if ctx.Err() != nil {
			return
		}
		p.report("noting how an endpoint does", err)
		if !errors.Is(err, platform.ErrUnavailable) {
			pause = 0
			continue
		}
		p.marker.again(k)
		pause = min(max(2*pause, firstPause), lastPause)
		sleep(ctx, pause)
	}
}

// note writes one mark, and takes over what the store has then.
func (p *Pusher) note(ctx context.Context, k mark) error {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	disabled, err := p.options.Store.MarkEndpoint(ctx, k.subscription, k.since, k.disable)
	if err != nil && !errors.Is(err, platform.ErrNotFound) { // of what was deleted there is nothing to note
		return err
	}
	if e := p.endpoint(k.subscription); disabled && e != nil {
		p.notify(Event{Kind: EndpointDisabled, App: e.app.app.ID, Subscription: e.ID, Reason: k.disable})
	}
	return p.refresh(ctx, k.app)
}
