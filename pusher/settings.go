package pusher

import (
	"cmp"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The defaults of the settings, and the bounds.
const (
	DefaultWorkers      = 1024
	MaxWorkers          = 100_000
	DefaultTimeout      = 5 * time.Second
	DefaultLease        = 30 * time.Second
	DefaultDisableAfter = 72 * time.Hour
	// LeaseOverTimeout is how much longer a lease is than a request may take.
	LeaseOverTimeout = 5 * time.Second
)

// WithDefaults fills what is zero. The default of Lease grows with Timeout.
func (s Settings) WithDefaults() Settings {
	s.Workers = cmp.Or(s.Workers, DefaultWorkers)
	s.Timeout = cmp.Or(s.Timeout, DefaultTimeout)
	s.Lease = cmp.Or(s.Lease, max(DefaultLease, s.Timeout+LeaseOverTimeout))
	s.DisableAfter = cmp.Or(s.DisableAfter, DefaultDisableAfter)
	if len(s.Schedule) == 0 {
		s.Schedule = DefaultSchedule
	}
	return s
}

// Validate refuses settings that cannot work, by a *platform.FieldError.
func (s *Settings) Validate() error {
	switch {
	case s.Workers < 1 || s.Workers > MaxWorkers:
		return &platform.FieldError{Field: "workers", Problem: fmt.Sprintf("it is %d", s.Workers), Want: fmt.Sprintf("1 to %d", MaxWorkers)}
	case s.Timeout < 0:
		return &platform.FieldError{Field: "timeout", Problem: fmt.Sprintf("it is %v", s.Timeout), Want: "a positive duration"}
	case s.Lease < s.Timeout+LeaseOverTimeout:
		return &platform.FieldError{Field: "lease", Problem: fmt.Sprintf("it is %v, and a request may take %v", s.Lease, s.Timeout), Want: fmt.Sprintf("at least %v, or a delivery could be taken over while its request is under way", s.Timeout+LeaseOverTimeout)}
	case s.DisableAfter < 0:
		return &platform.FieldError{Field: "disable_after", Problem: fmt.Sprintf("it is %v", s.DisableAfter), Want: "a positive duration"}
	}
	for _, w := range s.Schedule {
		if w < 0 {
			return &platform.FieldError{Field: "schedule", Problem: fmt.Sprintf("one of its waits is %v", w), Want: "positive durations"}
		}
	}
	return nil
}

// lockedReader makes a source of random bytes safe for concurrent use.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(b)
}

// lockedRand does the same for jitter.
type lockedRand struct {
	mu sync.Mutex
	r  *mathrand.Rand
}

func (l *lockedRand) Float64() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Float64()
}
