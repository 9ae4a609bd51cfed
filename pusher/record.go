package pusher

import (
	"context"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Record is a delivery as people look at it.
type Record struct {
	ID           DeliveryID
	Message      MessageID
	Environment  platform.Environment
	Topic        string
	User         string
	Key          string
	App          string // ID
	AppKey       string
	Subscription string // ID
	State        State
	Cause        Cause
	Attempts     int
	Due          time.Time
	Created      time.Time
	// DeliveredAt is when it first arrived; zero while it did not.
	DeliveredAt time.Time
	// Origin is the delivery that a reset repeated.
	Origin DeliveryID
	// LastStatus and LastClass are those of the last attempt.
	LastStatus int
	LastClass  ErrorClass
}

// Filter selects messages or deliveries. Zero fields select everything.
type Filter struct {
	App          uint64 // number
	Subscription uint64 // number
	Environment  platform.Environment
	Topic        string
	User         string
	States       []State
	// Since and Until bound when they were made; Until is excluded.
	Since, Until time.Time
	Message      MessageID
}

// Cursor is a place in a list by time; the zero cursor is its beginning.
type Cursor struct{ At, ID int64 }

// MessageRecord is a message with how many of its deliveries are in which state.
type MessageRecord struct {
	Message
	States map[State]int
}

// Records reads what was published and pushed, newest first.
type Records interface {
	Messages(ctx context.Context, f Filter, after Cursor, limit int) ([]MessageRecord, error)
	MessageRecord(ctx context.Context, id MessageID) (*MessageRecord, error)
	Deliveries(ctx context.Context, f Filter, after Cursor, limit int) ([]Record, error)
	Delivery(ctx context.Context, id DeliveryID) (*Record, error)
	// Body is what is posted, as it is encrypted, and the number of its key.
	Body(ctx context.Context, id DeliveryID) ([]byte, int, error)
	Attempts(ctx context.Context, id DeliveryID) ([]Attempt, error)

	// Undelivered lists deliveries of an app that neither arrived nor were
	// acknowledged or cancelled, oldest first, with their bodies.
	Undelivered(ctx context.Context, app uint64, e platform.Environment, topics []string, after Cursor, limit int) ([]Parcel, error)
	// Acknowledge ends deliveries of an app that it pulled, in the environment
	// that it pulls in; it returns how many of them were live.
	Acknowledge(ctx context.Context, app uint64, e platform.Environment, ids []DeliveryID) (int, error)

	// Depth counts deliveries that wait, and tells when the oldest was due.
	Depth(ctx context.Context) (Depth, error)
}

// Parcel is a delivery that an app pulls.
type Parcel struct {
	ID        DeliveryID
	Message   MessageID
	Topic     string
	Body      []byte
	KeyNumber int
	Created   time.Time
}

// Depth is how much waits.
type Depth struct {
	Pending, Delivering, Suspended int64
	// Oldest is when the oldest pending delivery was due; zero where none is.
	Oldest time.Time
}
