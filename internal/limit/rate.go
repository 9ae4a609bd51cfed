package limit

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

const (
	// maxPeriod bounds Rate.Period. Longer windows are quotas.
	maxPeriod = 366 * 24 * time.Hour
	// maxRefill bounds the time an empty allowance takes to fill, about 36
	// years. Together with clamp it keeps all sums of times within int64.
	maxRefill = 1 << 60
	// skew is how far the clock readings of concurrent callers may lie apart:
	// they read the clock before they queue for a lock. A reading that lies
	// further back means that the clock was set back.
	skew = time.Second
)

// Rate allows Requests in each Period, and Burst of them at once.
type Rate struct {
	Requests int64
	Period   time.Duration
	Burst    int64 // 0 means Requests
}

// IsZero reports whether there is no rate limit.
func (r Rate) IsZero() bool { return r == Rate{} }

// Validate accepts the zero Rate and any that can be enforced. The error names
// the field.
func (r Rate) Validate() error {
	if r.IsZero() {
		return nil
	}
	switch {
	case r.Period <= 0 || r.Period > maxPeriod:
		return fmt.Errorf("period: %v is not between 1ns and %v; write a quota for longer windows", r.Period, maxPeriod)
	case r.Requests <= 0:
		return fmt.Errorf("requests: %d is not positive", r.Requests)
	case r.Requests > int64(r.Period):
		return fmt.Errorf("requests: %d in %v is more than one a nanosecond", r.Requests, r.Period)
	case r.Burst < 0:
		return fmt.Errorf("burst: %d is negative; write 0 for the number of requests", r.Burst)
	case r.capacity() > maxRefill/r.step():
		return fmt.Errorf("burst: %d takes longer than 36 years to refill; write at most %d", r.Burst, maxRefill/r.step())
	}
	return nil
}

// capacity is the number of requests that a rested key may make at once.
func (r Rate) capacity() int64 {
	if r.Burst == 0 {
		return r.Requests
	}
	return r.Burst
}

// step is the time between two requests at the full rate, in ns. It is rounded
// up, so that the rate is never exceeded: by less than 1 ns a request.
func (r Rate) step() int64 {
	return (int64(r.Period)-1)/r.Requests + 1
}

// take applies the generic cell rate algorithm (ITU-T I.371, virtual
// scheduling) to one key. A key's state is its theoretical arrival time: the
// time at which its whole allowance is back. next is the state after a call;
// it counts only if the result is allowed. Times are Unix ns.
func (r Rate) take(tat, now int64) (next int64, res Result) {
	step := r.step()
	tolerance := step * r.capacity()
	next = max(tat, now) + step
	res = Result{Limit: r.Requests, Window: r.Period}
	if wait := next - tolerance - now; wait > 0 {
		res.Reset = time.Duration(tat - now)
		res.RetryAfter = time.Duration(wait)
		return tat, res
	}
	res.Allowed = true
	res.Reset = time.Duration(next - now)
	res.Remaining = (tolerance - (next - now)) / step
	return next, res
}

// settle cuts a debt that no call under this rate can have made: the rate was
// changed, or the clock set back. The key then counts as used up, so nothing is
// given away, but it need not wait out the old debt.
func (r Rate) settle(tat, now int64) (settled int64, changed bool) {
	tolerance := r.step() * r.capacity()
	if tat > now+tolerance+int64(skew) {
		return now + tolerance, true
	}
	return tat, false
}

// Quota allows a number of requests in a calendar day and in a calendar month;
// 0 means unlimited.
type Quota struct{ Day, Month int64 }

// IsZero reports whether there is no quota.
func (q Quota) IsZero() bool { return q == Quota{} }

// Validate refuses negative numbers. The error names the field.
func (q Quota) Validate() error {
	switch {
	case q.Day < 0:
		return errors.New("day: negative; write 0 for no daily quota")
	case q.Month < 0:
		return errors.New("month: negative; write 0 for no monthly quota")
	}
	return nil
}

// clamp holds a clock reading between 1970 and 2116: sums of its Unix ns with
// refill times then stay within int64, and its calendar is sane.
func clamp(now time.Time) time.Time {
	const last = 1 << 62 / int64(time.Second)
	switch s := now.Unix(); {
	case s < 0:
		return time.Unix(0, 0)
	case s > last:
		return time.Unix(last, 0)
	}
	return now
}

// smallerShare reports whether a/capA < b/capB, for numbers that are not negative.
func smallerShare(a, capA, b, capB int64) bool {
	ahi, alo := bits.Mul64(uint64(a), uint64(capB))
	bhi, blo := bits.Mul64(uint64(b), uint64(capA))
	return ahi < bhi || ahi == bhi && alo < blo
}
