package limit

import (
	"crypto/sha1" //nolint:gosec // G505: how Redis names scripts
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

//go:embed value.lua
var valueSource string

//go:embed spend.lua
var spendSource string

var spendScript = newScript(valueSource + spendSource)

// script is a Lua script and the name by which a server knows it.
type script struct{ source, sha string }

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // G401: how Redis names scripts
	return &script{source: source, sha: hex.EncodeToString(sum[:])}
}

// The verdicts of spend.lua.
const (
	verdictAllowed = 0
	verdictRefused = 1
	verdictUsed    = 2
	verdictFull    = 3
	verdictWindow  = 4 // the server's clock is outside of the windows given
)

// charges is what one run of spend.lua is asked for.
type charges struct {
	refuse  bool      // another limit refuses: nothing is charged
	clock   time.Time // the time to count with; zero: the server's own
	windows windows
	max     int   // nonces of the app
	ttl     int64 // of the nonce's bucket, ms
	checks  []Check
	nonce   []byte // 16 bytes, or none
}

// append packs c as spend.lua reads it.
func (c *charges) append(dst []byte) []byte {
	mode, sec, nano := 0.0, 0.0, 0.0
	if c.refuse {
		mode = 1
	}
	if !c.clock.IsZero() {
		sec, nano = float64(c.clock.Unix()), float64(c.clock.Nanosecond())
	}
	dst = appendDoubles(dst, mode, sec, nano)
	dst = c.appendWindows(dst)
	dst = appendDoubles(dst, float64(c.max), float64(c.ttl), float64(len(c.checks)))
	dst = c.appendChecks(dst)
	return append(dst, c.nonce...)
}

// appendWindows packs the windows, or all of time where they do not matter.
func (c *charges) appendWindows(dst []byte) []byte {
	day, month := span{0, math.MaxInt64}, span{0, math.MaxInt64}
	for i := range c.checks {
		if !c.checks[i].Quota.IsZero() {
			day, month = c.windows.day, c.windows.month
		}
	}
	return appendDoubles(dst, float64(day.start), float64(day.end), float64(month.start), float64(month.end))
}

func (c *charges) appendChecks(dst []byte) []byte {
	for i := range c.checks {
		check := &c.checks[i]
		var step, tolerance int64
		if !check.Rate.IsZero() {
			step = check.Rate.step()
			tolerance = step * check.Rate.capacity()
		}
		dst = appendDoubles(dst, float64(step), float64(tolerance), float64(check.Quota.Day), float64(check.Quota.Month))
	}
	return dst
}

func appendDoubles(dst []byte, numbers ...float64) []byte {
	for _, n := range numbers {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(n))
	}
	return dst
}

// found is how the script found one check.
type found struct{ debt, day, month int64 }

// outcome is a reply of spend.lua.
type outcome struct {
	verdict int
	now     time.Time // the clock that decided
	found   [MaxChecks]found
}

var errReply = errors.New("redis answered what the script never does")

// parse reads the reply to a call with n checks.
func (o *outcome) parse(reply string, n int) error {
	if len(reply) < 24 || len(reply)%8 != 0 {
		return fmt.Errorf("%w: %d bytes", errReply, len(reply))
	}
	const never = 1 << 62
	number := func(i int) (int64, bool) {
		f := double(reply, i)
		// The comparison is false for what is no number.
		return int64(f), f >= 0 && f <= never
	}
	verdict, ok := number(0)
	sec, okSec := number(1)
	nano, okNano := number(2)
	if !ok || verdict > verdictWindow || !okSec || sec > 1<<40 || !okNano || nano >= int64(time.Second) {
		return fmt.Errorf("%w: its head", errReply)
	}
	o.verdict, o.now = int(verdict), time.Unix(sec, nano)
	if len(reply) == 24 && (verdict > verdictRefused || n == 0) {
		return nil
	}
	if len(reply) != 8*(3+3*n) || n > MaxChecks {
		return fmt.Errorf("%w: %d bytes for %d checks", errReply, len(reply), n)
	}
	for i := range n {
		f := &o.found[i]
		for j, field := range []*int64{&f.debt, &f.day, &f.month} {
			if *field, ok = number(3 + 3*i + j); !ok {
				return fmt.Errorf("%w: check %d", errReply, i)
			}
		}
	}
	return nil
}

// double reads the i-th number of a reply.
func double(reply string, i int) float64 {
	b := reply[8*i : 8*i+8]
	return math.Float64frombits(uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56)
}

// tally adds what o says of the checks to t.
func (o *outcome) tally(t *tally, checks []Check, w *windows) {
	for i := range checks {
		for res, capacity := range checks[i].outcomes(o.found[i], w, o.now) {
			t.add(res, capacity)
		}
	}
}

// outcomes are what one more call comes to, by the same rules as Memory: a
// result for each limit of c, with its capacity.
func (c *Check) outcomes(f found, w *windows, now time.Time) iter.Seq2[Result, int64] {
	return func(yield func(Result, int64) bool) {
		give := func(res Result, capacity int64) bool {
			res.Scope = c.Key.Scope
			return yield(res, capacity)
		}
		if !c.Rate.IsZero() {
			// Only distances from now count, so now may be 0.
			if _, res := c.Rate.take(f.debt, 0); !give(res, c.Rate.capacity()) {
				return
			}
		}
		if limit := c.Quota.Day; limit > 0 && !give(count{used: f.day}.take(limit, UnitDay, w.day, now), limit) {
			return
		}
		if limit := c.Quota.Month; limit > 0 {
			give(count{used: f.month}.take(limit, UnitMonth, w.month, now), limit)
		}
	}
}
