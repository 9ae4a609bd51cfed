package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time, user and system, that a process has used so far, in
// nanoseconds: the ticks of /proc would be too coarse for short turns.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED, the last bits of a process's clock: clock_getcpuclockid(3)
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &used); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d (it needs Linux): %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// memory is the resident memory of a process in bytes, now and at its highest.
func memory(pid int) (resident, peak uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // G703: a number
	if err != nil {
		return 0, 0, fmt.Errorf("reading memory (it needs Linux): %w", err)
	}
	if resident, err = statusBytes(string(text), "VmRSS"); err != nil {
		return 0, 0, err
	}
	peak, err = statusBytes(string(text), "VmHWM")
	return resident, peak, err
}

// statusBytes reads one "Name:  123 kB" line of /proc/<pid>/status.
func statusBytes(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		fields := strings.Fields(value)
		if len(fields) != 2 || fields[1] != "kB" {
			return 0, fmt.Errorf("reading memory: %q; want a number and kB", strings.TrimSpace(line))
		}
		kib, err := strconv.ParseUint(fields[0], 10, 54)
		if err != nil {
			return 0, fmt.Errorf("reading memory: %s: %w", name, err)
		}
		return kib * 1024, nil
	}
	return 0, fmt.Errorf("reading memory: no line %s", name)
}

// metric reads one metric without labels from a gateway's admin endpoint.
func metric(ctx context.Context, admin, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return 0, fmt.Errorf("reading metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // G704: a gateway of ours
	if err != nil {
		return 0, fmt.Errorf("reading metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("reading metrics: %s", resp.Status)
	}
	value, err := parseMetric(resp.Body, name)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return value, err
}

// parseMetric finds one metric without labels in Prometheus' text format.
func parseMetric(in io.Reader, name string) (float64, error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("reading metrics: no %s", name), lines.Err())
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
	return spread{median: median, low: sorted[0], high: sorted[len(sorted)-1]}
}

// ratios divides a by b run by run: two neighbours in time share whatever else
// the machine does, which the medians of a and of b alone would not. A pair
// whose divisor is zero is left out.
func ratios(a, b []float64) []float64 {
	var out []float64
	for i, divisor := range b {
		if i < len(a) && divisor != 0 {
			out = append(out, a[i]/divisor)
		}
	}
	return out
}

// differences subtracts b from a run by run.
func differences(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] - b[i]
	}
	return out
}
