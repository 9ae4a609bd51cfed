//go:build !race

package handlers_test

const raceAllocs = 0
