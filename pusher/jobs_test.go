package pusher

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// stepping has a job, each step of which takes a while by the pusher's clock.
type stepping struct {
	*memory
	step  func()
	steps []time.Time
}

func (s *stepping) StepJob(context.Context, int) (*Job, []uint64, error) {
	if len(s.steps) == 100 { // it does not rest
		return nil, nil, nil
	}
	s.step()
	s.steps = append(s.steps, time.Now())
	return &Job{}, nil, nil
}

// TestJobsRest: after a step the store is left alone for as long as that took.
func TestJobsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newSimulation(t, Settings{})
		var ahead atomic.Int64
		f.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		s := &stepping{memory: f.store, step: func() { ahead.Add(int64(10 * time.Second)) }}
		f.options.Store = s
		stop := run(t, f.Pusher)
		pass(time.Minute - time.Second)
		stop()
		require.Len(t, s.steps, 6)
	})
}
