package pusher

import (
	"container/heap"
	"time"
)

// fifo is a queue in the order of arrival. Its zero value is empty.
type fifo[T any] struct {
	list []T
	head int
}

func (f *fifo[T]) size() int { return len(f.list) - f.head }

func (f *fifo[T]) push(v T) {
	if f.head > 32 && f.head > len(f.list)/2 {
		n := copy(f.list, f.list[f.head:])
		clear(f.list[n:])
		f.list, f.head = f.list[:n], 0
	}
	f.list = append(f.list, v)
}

func (f *fifo[T]) pop() T {
	var zero T
	v := f.list[f.head]
	f.list[f.head] = zero
	f.head++
	return v
}

// timer is when an endpoint's next delivery is due.
type timer struct {
	at     time.Time
	number uint64
}

// timers is a heap, the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push is for package heap alone.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop is for package heap alone.
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (t *timers) add(at time.Time, number uint64) {
	if len(*t) < maxTimers {
		heap.Push(t, timer{at, number})
	}
}

func (t *timers) pop() timer { return heap.Pop(t).(timer) }

// wait is how long it is until the first one, at the most an hour.
func (t timers) wait(now time.Time) time.Duration {
	if len(t) == 0 {
		return time.Hour
	}
	return min(max(t[0].at.Sub(now), 0), time.Hour)
}
