package pusher

import (
	"context"
	"fmt"
	"strconv"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// directory is that of all subscribers; the first call loads it.
func (p *Pusher) directory(ctx context.Context) (*directory, error) {
	if d := p.subscribers.Load(); d != nil {
		return d, nil
	}
	p.loading.Lock()
	defer p.loading.Unlock()
	if d := p.subscribers.Load(); d != nil {
		return d, nil
	}
	if err := p.loadAll(ctx); err != nil {
		return nil, err
	}
	return p.subscribers.Load(), nil
}

// endpoint is the endpoint of the number; nil where there is none.
func (p *Pusher) endpoint(number uint64) *endpoint {
	if d := p.subscribers.Load(); d != nil {
		return d.endpoint(number)
	}
	return nil
}

// Reload loads all subscribers anew: changes may have been missed.
func (p *Pusher) Reload(ctx context.Context) error {
	p.loading.Lock()
	err := p.loadAll(ctx)
	p.loading.Unlock()
	if err == nil {
		p.Wake()
	}
	return err
}

func (p *Pusher) loadAll(ctx context.Context) error {
	list, err := p.options.Store.Subscribers(ctx)
	if err != nil {
		return fmt.Errorf("loading subscribers: %w", err)
	}
	p.subscribers.Store(newDirectory(list, p.report))
	return nil
}

// Apply hears of a change of the domain that was committed.
func (p *Pusher) Apply(ctx context.Context, c platform.Change) error {
	switch c.Kind {
	case platform.ChangePush:
		number, err := strconv.ParseUint(c.Key, 10, 64)
		if err != nil {
			return fmt.Errorf("a change of pushes: %q is no app's number", c.Key)
		}
		return p.refresh(ctx, number)
	case platform.ChangeApp:
		if d := p.subscribers.Load(); d != nil {
			if number, ok := d.numbers.Load(c.Key); ok {
				return p.refresh(ctx, number.(uint64))
			}
		}
	}
	return nil
}

// refresh loads one app anew, and looks for its deliveries.
func (p *Pusher) refresh(ctx context.Context, app uint64) error {
	p.loading.Lock()
	defer p.loading.Unlock()
	d := p.subscribers.Load()
	if d == nil {
		return nil // it will be loaded with the others
	}
	list, err := p.options.Store.Subscribers(ctx, app)
	if err != nil {
		return fmt.Errorf("loading a subscriber: %w", err)
	}
	var s *subscriber
	if len(list) > 0 {
		if s, err = newSubscriber(&list[0]); err != nil {
			return fmt.Errorf("making the pushes of %s ready: %w", list[0].App.Key, err)
		}
	}
	p.subscribers.Store(d.with(app, s))
	if s != nil {
		for _, e := range s.endpoints {
			p.scheduler.wake(e.Number)
		}
	}
	return nil
}
