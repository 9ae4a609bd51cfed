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
// has waited longest.
type idleConnections struct {
	most int

	mu sync.Mutex
	// hosts has the connections to each target, order all of them; those that began
	// to wait last stand last.
	hosts  map[target][]*list.Element
	order  *list.List // of *connection
	timer  *time.Timer
	closed bool
}

func newIdleConnections(most int) *idleConnections {
	return &idleConnections{most: most, hosts: map[target][]*list.Element{}, order: list.New()}
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
		if time.Since(c.since) < surelyOpen || usable(c.below) {
			return c
		}
		c.close()
	}
}

// put lets a connection wait.
func (i *idleConnections) put(c *connection) {
	c.since = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		c.close()
		return
	}
	i.hosts[c.to] = append(i.hosts[c.to], i.order.PushBack(c))
	if i.order.Len() > i.most {
		i.remove(i.oldest().to, 0).close()
	}
	if i.timer == nil {
		i.timer = time.AfterFunc(idleTimeout, i.sweep)
	}
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
	i.mu.Lock()
	defer i.mu.Unlock()
	for c := i.oldest(); c != nil; c = i.oldest() {
		if left := idleTimeout - time.Since(c.since); left > 0 {
			i.timer.Reset(left)
			return
		}
		i.remove(c.to, 0).close()
	}
	i.timer = nil
}

// close closes all that wait, and lets none wait any more.
func (i *idleConnections) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.timer != nil {
		i.timer.Stop()
	}
	for c := i.oldest(); c != nil; c = i.oldest() {
		i.remove(c.to, 0).close()
	}
}
