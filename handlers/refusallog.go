package handlers

import (
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-openplatform/openplatform/internal/gate"
)

// Of refusals with one code, each refuseSpan has so many entries of the log, and
// then each so manieth. Those that the platform could not check are all the same
// while a server is down, which the app has told of already: one in outageSpan.
const (
	refuseSpan  = time.Second
	refuseFirst = 100
	refuseEach  = 100
	outageSpan  = 10 * time.Second
)

// refusalLog tells operators of refused calls, and thins out a flood of them. It
// counts by code: a sampler of zap's counts by message, and takes half a megabyte
// for each level of a handler, of which a site may have many.
type refusalLog struct {
	logger *zap.Logger
	counts []refusalCount
}

// refusalCount is how many refusals with one code there were in a span of time.
type refusalCount struct{ ends, n atomic.Int64 }

func newRefusalLog(logger *zap.Logger) refusalLog {
	return refusalLog{logger, make([]refusalCount, len(gate.Codes))}
}

// refused tells of a refusal: as an error where the platform is at fault, else as
// information.
func (l *refusalLog) refused(x *exchange, r *gate.Refusal) {
	if !l.tells(r.Code, x.call.Started) {
		return
	}
	level := zapcore.InfoLevel
	if r.Code.Status >= 500 {
		level = zapcore.ErrorLevel
	}
	entry := l.logger.Check(level, "call refused: "+r.Code.Name)
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.Inline(x),
		zap.Stringer("client_ip", x.call.ClientIP),
		zap.Int("status", r.Code.Status),
		zap.String("detail", r.Detail),
	}
	if cause := errors.Unwrap(r); cause != nil {
		fields = append(fields, zap.NamedError("cause", cause))
	}
	entry.Write(fields...)
}

// tells counts a refusal, and tells whether it is one of those that are logged.
func (l *refusalLog) tells(code *gate.Code, now time.Time) bool {
	span := refuseSpan
	if code == gate.StoreUnavailable {
		span = outageSpan
	}
	c := &l.counts[code.Index()]
	if ends := c.ends.Load(); now.UnixNano() >= ends && c.ends.CompareAndSwap(ends, now.Add(span).UnixNano()) {
		c.n.Store(0)
	}
	n := c.n.Add(1)
	if code == gate.StoreUnavailable {
		return n == 1
	}
	return n <= refuseFirst || (n-refuseFirst)%refuseEach == 0
}
