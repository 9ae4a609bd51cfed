package pusher

import "time"

// notedAfter is how many failures in a row are noted in the store.
const notedAfter = 3

// health follows for how long an endpoint has failed without a success.
type health struct {
	failures int
	// since is when the first of the failures was.
	since time.Time
	// stored is what the store has, or will have.
	stored time.Time
	// disabled says that it is being disabled.
	disabled bool
}

// mark is what the store is to note about an endpoint.
type mark struct {
	app          uint64
	subscription uint64
	since        time.Time
	// disable is the reason; empty leaves the endpoint enabled.
	disable string
}

// known hears what the store has: where it works, by another node's word or
// since somebody resumed it, all begins anew.
func (h *health) known(since time.Time) {
	if since.IsZero() {
		*h = health{}
		return
	}
	h.stored, h.disabled = since, false
	if h.since.IsZero() || since.Before(h.since) {
		h.since = since
	}
}

// succeeded tells whether the store is to note that the endpoint works.
func (h *health) succeeded() (note bool) {
	note = !h.stored.IsZero()
	*h = health{disabled: h.disabled}
	return note
}

// failed tells whether the store is to note since when the endpoint fails, and
// whether it has failed for too long.
func (h *health) failed(now time.Time, limit time.Duration) (note, disable bool) {
	h.failures++
	if h.since.IsZero() {
		h.since = now
	}
	if h.disabled {
		return false, false
	}
	if now.Sub(h.since) >= limit && h.failures >= notedAfter {
		h.disabled = true
		return false, true
	}
	if h.failures >= notedAfter && h.stored.IsZero() {
		h.stored = h.since
		return true, false
	}
	return false, false
}
