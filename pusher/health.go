package pusher

import "time"

// notedAfter is how many failures in a row are noted in the store.
const notedAfter = 3

// health follows for how long an endpoint has failed without a success.
type health struct {
	failures int
	// since is when the first of the failures was.
	since time.Time
	// told: the store has been told of since, or will be. noted: it says so itself.
	told, noted bool
	// disabled says that it is being disabled.
	disabled bool
}

// mark is what the store is to note about an endpoint.
type mark struct {
	app          uint64
	subscription uint64
	// since is when it began to fail; zero says that it works, or with a reason, that
	// it is disabled whatever else it answers.
	since time.Time
	// disable is the reason; empty leaves the endpoint enabled.
	disable string
}

// final says that no other word about the endpoint counts.
func (k mark) final() bool { return k.disable != "" && k.since.IsZero() }

// known hears what the store has: where it works, by another node's word or
// since somebody resumed it, all begins anew.
func (h *health) known(since time.Time) {
	if since.IsZero() {
		*h = health{}
		return
	}
	*h = health{failures: h.failures, since: since, told: true, noted: true}
}

// succeeded tells whether the store is to note that the endpoint works.
func (h *health) succeeded() (note bool) {
	note = h.told
	*h = health{disabled: h.disabled}
	return note
}

// failed tells whether the store is to note since when the endpoint fails, and
// whether it has failed for too long, which it has only once the store says since
// when: the store disables it by that.
func (h *health) failed(now time.Time, limit time.Duration) (note, disable bool) {
	h.failures++
	if h.since.IsZero() {
		h.since = now
	}
	switch {
	case h.disabled || h.failures < notedAfter:
	case !h.told:
		h.told = true
		return true, false
	case h.noted && now.Sub(h.since) >= limit:
		h.disabled = true
		return false, true
	}
	return false, false
}
