package pusher

import (
	"context"
	"time"
)

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	JobRunning   JobState = "running"
	JobPaused    JobState = "paused"
	JobCancelled JobState = "cancelled"
	JobDone      JobState = "done"
)

// Job pushes many deliveries again: those that the filter selects. It works in
// steps of a bounded size, each a transaction that also moves its cursor, so
// that it goes on where it was after any crash, on any node.
type Job struct {
	// ID is "job_" and 20 characters.
	ID string `json:"id"`
	// Cause is Manual (any state), Repush (failed ones) or Reset (new
	// deliveries for all, linked to the old).
	Cause  Cause  `json:"-"`
	Filter Filter `json:"-"`
	// Query is the filter in the words of who asked for it.
	Query Query    `json:"filter"`
	State JobState `json:"state"`
	// Actor is who asked for it.
	Actor string `json:"actor"`
	// Total is how many the filter selected when it began; Done is how many
	// were pushed again.
	Total     int64     `json:"total"`
	Done      int64     `json:"done"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Jobs keeps jobs and pushes deliveries again.
type Jobs interface {
	// PushAgain makes one delivery due now, in whatever state it is, and owes
	// it one attempt more: two calls make two attempts. ErrConflict where the
	// merchant's authorization has ended.
	PushAgain(ctx context.Context, id DeliveryID) error
	// Cancel ends a delivery that is not final.
	Cancel(ctx context.Context, id DeliveryID) error

	// CreateJob saves a job. Jobs other than resets end at the deliveries that
	// were there when it was made, and so do resets.
	CreateJob(ctx context.Context, j *Job) error
	Job(ctx context.Context, id string) (*Job, error)
	Jobs(ctx context.Context, limit int) ([]Job, error)
	// SetJob pauses, resumes or cancels a job; one that has ended is ErrConflict.
	SetJob(ctx context.Context, id string, state JobState) error
	// StepJob does the next step of the oldest running job, of at most limit
	// deliveries, and returns it with the subscriptions that have work now; nil
	// where no job runs or another node is at it.
	StepJob(ctx context.Context, limit int) (*Job, []uint64, error)
}
