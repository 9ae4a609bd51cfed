package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time, user and system, that this process has used so far.
func cpuTime() (time.Duration, error) {
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used); err != nil {
		return 0, fmt.Errorf("reading the CPU time: %w", err)
	}
	return time.Duration(used.Nano()), nil
}

// tick is the unit of times in /proc/<pid>/stat: USER_HZ, which is 100 on all
// architectures that Linux and Go share.
const tick = 10 * time.Millisecond

// stat is what is read of /proc/<pid>/stat.
type stat struct {
	parent int
	// own is the CPU time of the process, ended that of its children that have
	// ended.
	own, ended time.Duration
}

// parseStat reads the line. The name of the program, in parentheses, may hold
// anything.
func parseStat(line []byte) (stat, error) {
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("reading a process's times: %q; want 15 fields or more", line)
	}
	var n [5]int // parent; user and system time; the same of ended children
	for i, field := range []int{1, 11, 12, 13, 14} {
		var err error
		if n[i], err = strconv.Atoi(string(fields[field])); err != nil {
			return stat{}, fmt.Errorf("reading a process's times: %w", err)
		}
	}
	return stat{n[0], time.Duration(n[1]+n[2]) * tick, time.Duration(n[3]+n[4]) * tick}, nil
}

// familyTime is the CPU time of a process and its children, those that have
// ended too.
func familyTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	var sum time.Duration
	own := fmt.Sprintf("/proc/%d/stat", pid)
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		s, err := parseStat(line)
		switch {
		case err != nil:
			return 0, err
		case file == own:
			sum += s.own + s.ended
		case s.parent == pid:
			sum += s.own
		}
	}
	return sum, nil
}

// use is what was spent between two moments.
type use struct{ wall, own, database time.Duration }

func (u use) minus(before use) use {
	return use{u.wall - before.wall, u.own - before.own, u.database - before.database}
}

// cost is what each of n things took.
type cost struct {
	rate          float64 // a second
	own, database float64 // CPU time in µs
}

func (u use) each(n int) cost {
	if n <= 0 || u.wall <= 0 {
		return cost{}
	}
	return cost{
		rate: float64(n) / u.wall.Seconds(),
		own:  microseconds(u.own) / float64(n), database: microseconds(u.database) / float64(n),
	}
}

// The figures of a cost.
func rateOf(c cost) float64     { return c.rate }
func ownOf(c cost) float64      { return c.own }
func databaseOf(c cost) float64 { return c.database }

// column picks one figure of all runs.
func column(runs []cost, figure func(cost) float64) []float64 {
	out := make([]float64, len(runs))
	for i, c := range runs {
		out[i] = figure(c)
	}
	return out
}

// spread is a series of figures: its median and its ends.
type spread struct{ median, low, high float64 }

// spreadOf summarises values; all zero when there are none.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}
}

// ratios divides run by run: what the machine did to both of a pair falls out.
func ratios(a, b []float64) []float64 {
	var out []float64
	for i, divisor := range b {
		if i < len(a) && divisor != 0 {
			out = append(out, a[i]/divisor)
		}
	}
	return out
}

// percentile is the smallest value that a share of the values does not exceed;
// 0 when there are none.
func percentile(values []time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(share * float64(len(sorted)))
	if float64(rank) < share*float64(len(sorted)) {
		rank++
	}
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// microseconds and milliseconds make figures of durations.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
