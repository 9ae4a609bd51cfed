package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is one line of a table.
type row struct {
	name string
	runs []cost
}

// printTable prints the medians of the runs.
func printTable(out io.Writer, title, unit string, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\n%s\t %s\t lowest\t highest\t cpu µs\t database cpu µs\t\n", title, unit)
	for _, r := range rows {
		rate := spreadOf(column(r.runs, rateOf))
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t\n", r.name, rate.median, rate.low, rate.high,
			spreadOf(column(r.runs, ownOf)).median, spreadOf(column(r.runs, databaseOf)).median)
	}
	_ = w.Flush()
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
