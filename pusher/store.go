// Package pusher delivers messages to apps: it takes them from publishers,
// keeps a delivery for each app that is to get one, and posts it, encrypted and
// signed, until it arrives. Any number of nodes work on one store. It knows
// neither Caddy nor SQL.
package pusher

import (
	"context"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// MessageID names a message: when it was accepted, in Unix microseconds, and a
// random number. Its text is what apps see as webhook-id; it sorts by time.
type MessageID struct{ At, ID int64 }

// DeliveryID names a delivery: when it was made, in Unix microseconds, and its
// number in the store. Of two deliveries of one subscription the later one has
// the higher number.
type DeliveryID struct{ At, ID int64 }

// Message is what a publisher sends: the original.
type Message struct {
	ID          MessageID
	Environment platform.Environment
	Topic       string
	// User is the merchant that it concerns; empty where it concerns none.
	User string
	// Key orders messages of ordered subscriptions; empty does not.
	Key string
	// Time is when it happened, as the publisher says.
	Time time.Time
	// Data is JSON.
	Data []byte
	// Idempotency is the publisher's id; a second message with the same one is
	// the same message for 24 hours. Empty where there is none.
	Idempotency string
	// Digest is the SHA-256 of what makes the message the same. Publish sets it.
	Digest [32]byte
	// Check asks Publish to compare Data with the topic's schema. It is not
	// stored.
	Check bool
	// Mistake is what was wrong with it when it was read; Publish refuses it with
	// all others. It is not stored.
	Mistake error
}

// NewDelivery is a delivery that a message makes.
type NewDelivery struct {
	Subscription uint64 // number
	App          uint64 // number
	// Grant is the merchant's authorization, by its ID; the delivery is
	// cancelled when it ends. Empty where none is needed.
	Grant string
	// Key is set where the subscription is ordered.
	Key string
	// Body is what is posted, encrypted with the app's push key of the number
	// KeyNumber; 0 where it is not encrypted. It is empty where the app had no
	// live key when the message was accepted: then it is made from the original.
	Body      []byte
	KeyNumber int
}

// Publication is a message with its deliveries.
type Publication struct {
	Message    Message
	Deliveries []NewDelivery
}

// Batch is published as a whole or not at all.
type Batch []Publication

// BatchResult tells what became of a batch.
type BatchResult struct {
	// Receipts has one entry a message, unless Err is set.
	Receipts []Receipt
	// Err says why nothing of the batch was saved.
	Err error
	// Conflicts are the indexes of the messages whose Idempotency belongs to other
	// content. Err then wraps platform.ErrConflict.
	Conflicts []int
}

// Receipt is the acknowledgement of one message.
type Receipt struct {
	ID MessageID
	// Duplicate says that the message was there already: nothing was saved.
	Duplicate bool
	// Deliveries is how many deliveries it made.
	Deliveries int
}

// State is where a delivery stands.
type State uint8

// The states of a delivery. Those in which it waits or ends are stored by number.
const (
	Pending    State = 0 // waits until it is due
	Delivering State = 1 // a node has claimed it; never stored
	Delivered  State = 2
	Failed     State = 3 // retries used up
	Suspended  State = 4 // pending, while its subscription is disabled or paused; never stored
	Cancelled  State = 5 // the grant ended, or staff cancelled it
	Acked      State = 6 // the app pulled and acknowledged it
)

// Cause is why a delivery is attempted. It is stored by number.
type Cause uint8

// The causes of attempts, by the names that apps see: auto, manual, repush, reset.
const (
	Auto   Cause = 0
	Manual Cause = 1
	Repush Cause = 2
	Reset  Cause = 3
)

// Endpoint asks for work of one subscription.
type Endpoint struct {
	Subscription uint64
	// Room is how many deliveries this node takes at the most.
	Room int
	// Concurrency is how many may be claimed on all nodes together.
	Concurrency int
	// Ordered takes the oldest live delivery of each key alone.
	Ordered bool
}

// Claim asks for deliveries that are due.
type Claim struct {
	Node string
	// Lease is for how long they belong to the node.
	Lease     time.Duration
	Endpoints []Endpoint
}

// Work is a claimed delivery.
type Work struct {
	ID           DeliveryID
	Subscription uint64
	App          uint64
	// Fence must be shown to complete it: who comes later has a higher one.
	Fence   int64
	Message MessageID
	Topic   string
	User    string
	// Key is what orders it; empty where no other delivery waits for it.
	Key string
	// Attempt is the number of this attempt, from 1; Tries is how many of them
	// the schedule counts, this one included: a manual push starts it anew.
	Attempt, Tries int
	Cause          Cause
	// Trying is for how long the schedule had been going on when it was claimed, by
	// the database's clock alone; 0 at its first attempt.
	Trying time.Duration
	// Created is when the delivery was made, Due when it was to be attempted.
	Created, Due time.Time
	Body         []byte
	KeyNumber    int
	// Revoked says that the merchant's grant has ended: cancel it.
	Revoked bool
}

// ClaimResult is what a claim found.
type ClaimResult struct {
	Work []Work
	// More lists the subscriptions that have further deliveries due now, and
	// that the claim had no room for. Busy lists those that another node held.
	More, Busy []uint64
}

// Completion tells what became of a claimed delivery.
type Completion struct {
	ID           DeliveryID
	Subscription uint64
	Fence        int64
	// State is what it becomes; Pending for another attempt after Wait. A
	// manual push that came meanwhile makes it pending at once in any case.
	State State
	Wait  time.Duration
	// Ordered says that others of its key may have waited for it.
	Ordered bool
	// Attempt is the record; nil where nothing was attempted.
	Attempt *Attempt
	// Body replaces what is posted, with the number of its key; nil leaves it.
	Body      []byte
	KeyNumber int
}

// ErrorClass tells what kind of failure an attempt met. It is stored as text.
type ErrorClass string

// The classes of failures.
const (
	ClassNone        ErrorClass = ""
	ClassDNS         ErrorClass = "dns"
	ClassRefused     ErrorClass = "address_refused" // a forbidden address
	ClassConnect     ErrorClass = "connect"
	ClassTLS         ErrorClass = "tls"
	ClassTimeout     ErrorClass = "timeout"
	ClassProtocol    ErrorClass = "protocol" // no valid HTTP
	ClassStatus      ErrorClass = "status"   // anything but 2xx
	ClassInterrupted ErrorClass = "interrupted"
	// ClassKey is the lack of a live push key to sign or encrypt with.
	ClassKey ErrorClass = "key"
	// ClassLost is the attempt of a node that died, or lost its lease: nobody
	// knows how it ended.
	ClassLost ErrorClass = "lost"
)

// Attempt is the record of one request: the push link record.
type Attempt struct {
	Number   int
	Cause    Cause
	Started  time.Time
	Duration time.Duration
	// Address is what was connected to; empty where nothing was.
	Address string
	// Status is the HTTP status; 0 where none came.
	Status int
	Class  ErrorClass
	// Error says more, in words, without secrets.
	Error string
	// Response is the first 4 KiB of the answer's body.
	Response []byte
	Node     string
}

// Waiting is a subscription with live deliveries.
type Waiting struct {
	Subscription uint64
	// Due is when the first of them is due.
	Due time.Time
}

// Store keeps messages and deliveries. Package internal/store fills it. All
// times that decide (due, leases) are the database's own. Errors wrap
// platform.ErrNotFound, ErrConflict or ErrUnavailable.
type Store interface {
	// Subscribers loads the apps that have subscriptions or push keys: all of
	// them, or those of the numbers.
	Subscribers(ctx context.Context, apps ...uint64) ([]platform.Subscriber, error)
	// Granted lists the grants of the users that hold now.
	Granted(ctx context.Context, e platform.Environment, users []string) ([]platform.Grant, error)

	// Publish saves batches; each succeeds or fails by itself. It returns once
	// they are durable, and wakes other nodes.
	Publish(ctx context.Context, batches []Batch) ([]BatchResult, error)
	// Claim takes due deliveries of active subscriptions for the node. It may
	// return before they are durably its: a claim that is lost is one whose lease
	// ends sooner.
	Claim(ctx context.Context, c Claim) (ClaimResult, error)
	// Complete records attempts and moves deliveries on, all of them in one
	// transaction. It tells for each whether it still had the delivery; of
	// one that it had lost the attempt is recorded all the same.
	Complete(ctx context.Context, done []Completion) ([]bool, error)
	// Rescue makes deliveries pending whose lease has ended, and records the
	// attempt as lost. It returns how many, and of which subscriptions.
	Rescue(ctx context.Context, limit int) (int, []uint64, error)
	// Waiting lists the subscriptions with pending deliveries.
	Waiting(ctx context.Context) ([]Waiting, error)
	// Listen calls wake with the subscriptions for which other nodes published
	// or resumed; none means any. It returns when ctx ends.
	Listen(ctx context.Context, wake func(subscriptions []uint64))

	// MarkEndpoint notes when a subscription began to fail; the zero time says
	// that it works. With a reason it disables the subscription, if it is active:
	// deliveries wait from then on. With a reason and a time it does so only where
	// the subscription is noted to have failed since then, or for longer: any node
	// may have delivered meanwhile. It tells whether it disabled it. All nodes hear
	// of it.
	MarkEndpoint(ctx context.Context, subscription uint64, failingSince time.Time, disable string) (disabled bool, err error)
	// Original loads a message, to encrypt it anew.
	Original(ctx context.Context, id MessageID) (*Message, error)

	Records
	Jobs
}
