package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// microseconds and milliseconds make figures of durations.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// The figures of a run that are reported.
func cpuFigure(s sample) float64       { return microseconds(s.gateway) }
func steadyFigure(s sample) float64    { return microseconds(s.steady) }
func generatorFigure(s sample) float64 { return microseconds(s.generator) }
func upstreamFigure(s sample) float64  { return microseconds(s.upstream) }
func p50Figure(s sample) float64       { return milliseconds(s.p50) }
func p99Figure(s sample) float64       { return milliseconds(s.p99) }
func allocsFigure(s sample) float64    { return s.allocs }
func rateFigure(s sample) float64      { return s.rate }

// table prints the medians of every variant.
func table(out io.Writer, title string, s series, variants []variant) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\n%s\t requests/s\t cpu µs\t allocs\t p50 ms\t p99 ms\t load cpu µs\t upstream cpu µs\t\n", title)
	for _, v := range variants {
		middle := func(f func(sample) float64) float64 { return spreadOf(s.column(v, f)).median }
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t%.1f\t\n", v, middle(rateFigure), middle(cpuFigure),
			middle(allocsFigure), middle(p50Figure), middle(p99Figure), middle(generatorFigure), middle(upstreamFigure))
	}
	return w.Flush()
}

// line is one named figure of the output.
type line struct {
	name   string
	value  spread
	digits int
}

// print writes the median as "name: value" and nothing more, so that a script
// finds it, and the lowest and the highest run below.
func (l line) print(out io.Writer) {
	_, _ = fmt.Fprintf(out, "%s: %.*f\n    runs: %.*f to %.*f\n", l.name,
		l.digits, l.value.median, l.digits, l.value.low, l.digits, l.value.high)
}

// lines compares the variants pair by pair. The suffix tells the parts of the
// output apart: "" for HTTP with the small store, " over tls", ...
func lines(s series, suffix string) []line {
	quotient := func(a, b variant, f func(sample) float64) spread {
		return spreadOf(ratios(s.column(a, f), s.column(b, f)))
	}
	var out []line
	if len(s[gated]) > 0 && len(s[plain]) > 0 {
		out = append(out,
			line{"gate/plain cpu ratio" + suffix, quotient(gated, plain, steadyFigure), 3},
			line{"gate/plain cpu ratio in a closed loop" + suffix, quotient(gated, plain, cpuFigure), 3},
			line{"gate/plain p99 ratio" + suffix, quotient(gated, plain, p99Figure), 3},
			line{"gate extra cpu µs" + suffix, spreadOf(differences(s.column(gated, cpuFigure), s.column(plain, cpuFigure))), 1},
			line{"gate extra allocations" + suffix, spreadOf(differences(s.column(gated, allocsFigure), s.column(plain, allocsFigure))), 1},
		)
	}
	if len(s[gated]) > 0 && len(s[defaults]) > 0 {
		out = append(out,
			line{"gate/default cpu ratio" + suffix, quotient(gated, defaults, steadyFigure), 3},
			line{"gate/default cpu ratio in a closed loop" + suffix, quotient(gated, defaults, cpuFigure), 3},
		)
	}
	if len(s[plain]) > 0 && len(s[defaults]) > 0 {
		out = append(out,
			line{"plain/default cpu ratio" + suffix, quotient(plain, defaults, steadyFigure), 3},
			line{"plain/default cpu ratio in a closed loop" + suffix, quotient(plain, defaults, cpuFigure), 3},
		)
	}
	if len(s[control]) > 0 && len(s[plain]) > 0 {
		out = append(out,
			line{"noise: plain/plain cpu ratio" + suffix, quotient(control, plain, steadyFigure), 3},
			line{"noise: plain/plain cpu ratio in a closed loop" + suffix, quotient(control, plain, cpuFigure), 3},
		)
	}
	return append(out, line{"load generator/gateway cpu ratio" + suffix, spreadOf(ratios(s.column(plain, generatorFigure), s.column(plain, cpuFigure))), 2})
}

// floodLines compares refused calls with good ones.
func floodLines(s series, suffix string) []line {
	return []line{
		{"refused/good cpu ratio" + suffix, spreadOf(ratios(s.column(refused, cpuFigure), s.column(gated, cpuFigure))), 3},
		{"refused call cpu µs" + suffix, spreadOf(s.column(refused, cpuFigure)), 1},
		{"refused call allocations" + suffix, spreadOf(s.column(refused, allocsFigure)), 1},
	}
}
