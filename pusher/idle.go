package pusher

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

const (
	// idleTimeout is for how long a connection waits for another request.
	idleTimeout = 60 * time.Second
	// surelyOpen is for how long nobody looks whether it is open still.
	surelyOpen = time.Second
)

// idleConnections wait for another request, up to a number: then the one goes that
// has waited longest. All workers share the lock, so none is closed under it.
type idleConnections struct {
	most int
	now  func() time.Time

	mu sync.Mutex
	// hosts has the connections to each target, order all of them; those that began
	// to wait last stand last.
	hosts  map[target][]*list.Element
	order  *list.List // of *connection
	timer  *time.Timer
	closed bool
}

func newIdleConnections(most int, now func() time.Time) *idleConnections {
	return &idleConnections{most: most, now: now, hosts: map[target][]*list.Element{}, order: list.New()}
}

// take returns a connection, or nil.
func (i *idleConnections) take(to target) *connection {
	for {
		i.mu.Lock()
		n := len(i.hosts[to])
		if n == 0 {
			i.mu.Unlock()
			return nil
		}
		c := i.remove(to, n-1)
		i.mu.Unlock()
		if i.now().Sub(c.since) < surelyOpen || usable(c.below) {
			return c
		}
		c.close()
	}
}

// put lets a connection wait. The one that is too many is closed.
func (i *idleConnections) put(c *connection) {
	if over := i.add(c); over != nil {
		over.close()
	}
}

// add returns the one that is too many; nil where there is room.
func (i *idleConnections) add(c *connection) (over *connection) {
	c.since = i.now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return c
	}
	i.hosts[c.to] = append(i.hosts[c.to], i.order.PushBack(c))
	if i.order.Len() > i.most {
		over = i.remove(i.oldest().to, 0)
	}
	if i.timer == nil {
		i.timer = time.AfterFunc(idleTimeout, i.sweep)
	}
	return over
}

// remove takes one of those to a host out.
func (i *idleConnections) remove(to target, at int) *connection {
	waiting := i.hosts[to]
	c := i.order.Remove(waiting[at]).(*connection)
	if waiting = slices.Delete(waiting, at, at+1); len(waiting) == 0 {
		delete(i.hosts, to)
	} else {
		i.hosts[to] = waiting
	}
	return c
}

// oldest has waited longest, and so is the first of its host; nil where none waits.
func (i *idleConnections) oldest() *connection {
	if e := i.order.Front(); e != nil {
		return e.Value.(*connection)
	}
	return nil
}

// sweep closes those that have waited for long.
func (i *idleConnections) sweep() {
	for _, c := range i.takeOld() {
		c.close()
	}
}

func (i *idleConnections) takeOld() (old []*connection) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for c := i.oldest(); c != nil; c = i.oldest() {
		if left := idleTimeout - i.now().Sub(c.since); left > 0 {
			i.timer.Reset(left)
			return old
		}
		old = append(old, i.remove(c.to, 0))
	}
	i.timer = nil
	return old
}

// close closes all that wait, and lets none wait any more.
func (i *idleConnections) close() {
	for _, c := range i.takeAll() {
		c.close()
	}
}

func (i *idleConnections) takeAll() (all []*connection) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.timer != nil {
		i.timer.Stop()
	}
	for c := i.oldest(); c != nil; c = i.oldest() {
		all = append(all, i.remove(c.to, 0))
	}
	return all
}
