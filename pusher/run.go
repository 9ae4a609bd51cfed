package pusher

import (
	"context"
	"sync"
	"time"
)

// stopMargin is how much longer than a request the saving of the last outcomes
// may take.
const stopMargin = 5 * time.Second

// Run delivers until ctx ends, and then waits for the requests under way, at
// most for their timeout. What was claimed and not begun is given back. Call it
// once.
func (p *Pusher) Run(ctx context.Context) error {
	saving, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	var background, saver sync.WaitGroup
	saver.Go(func() { p.complete(saving) })

	if p.load(ctx) {
		for _, f := range []func(context.Context){p.scan, p.rescue, p.runJobs, p.mark, p.listen} {
			background.Go(func() { f(ctx) })
		}
		p.claimer(ctx)
	}

	s := p.scheduler
	stop := time.AfterFunc(p.current.Load().Timeout+stopMargin, abandon)
	defer stop.Stop()
	for _, it := range s.stop() {
		w := &it.work
		p.completer.add(&outcome{item: it, Completion: Completion{ID: w.ID, Subscription: w.Subscription, Fence: w.Fence, State: Pending}})
	}
	s.workers.Wait()
	p.completer.close()
	saver.Wait()
	background.Wait()
	p.current.Load().close()
	return nil
}

// load loads the subscribers, and tries until it can.
func (p *Pusher) load(ctx context.Context) bool {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		_, err := p.directory(ctx)
		if err == nil {
			return true
		}
		p.report("starting to push", err)
		pause = min(max(2*pause, firstPause), lastPause)
		sleep(ctx, spread(pause, p.scheduler.random()))
	}
	return false
}

// listen hears what other nodes published.
func (p *Pusher) listen(ctx context.Context) {
	p.options.Store.Listen(ctx, func(subscriptions []uint64) { p.Wake(subscriptions...) })
}
