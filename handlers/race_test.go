//go:build race

package handlers_test

// raceAllocs is how many allocations more the race detector costs: it has
// sync.Pool drop what it keeps now and then.
const raceAllocs = 4
