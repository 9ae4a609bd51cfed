package pusher

import (
	"context"
	"time"
)

const (
	// jobStep is how many deliveries a job pushes again in one transaction.
	jobStep = 500
	// jobsEvery is how often the store is asked for jobs.
	jobsEvery = 5 * time.Second
	// stepTimeout bounds one step.
	stepTimeout = 30 * time.Second
)

// runJobs works on jobs until ctx ends. After a step it rests for as long as that
// took, so that messages that come meanwhile find the store free.
func (p *Pusher) runJobs(ctx context.Context) {
	for ctx.Err() == nil {
		began := p.now()
		if !p.current.Load().Off && p.stepJob(ctx) {
			sleep(ctx, p.now().Sub(began))
			continue
		}
		p.pause(ctx, jobsEvery, p.anyJob)
	}
}

// stepJob tells whether there was something to do.
func (p *Pusher) stepJob(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	job, subscriptions, err := p.options.Store.StepJob(ctx, jobStep)
	p.report("pushing deliveries again", err)
	if err != nil || job == nil {
		return false
	}
	p.scheduler.wake(subscriptions...)
	return true
}
