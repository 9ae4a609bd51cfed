package limit

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"
)

//go:embed add.lua
var addSource string

var addScript = newScript(valueSource + addSource)

// probeRate is what a probe spends: it writes, as calls do.
var probeRate = Rate{Requests: 1_000_000, Period: time.Second}

// heal tries whether calls for the keys with a tag can be counted again, and
// brings what this node allowed meanwhile.
func (r *Redis) heal(ctx context.Context, tag string) error {
	c := charges{checks: []Check{{Rate: probeRate}}}
	reply, err := r.call(ctx, spendScript, tag+":0", c.append(nil))
	if err == nil {
		err = new(outcome).parse(reply, 1)
	}
	if err != nil && classify(ctx, err) == failDown {
		return err
	}
	if err := r.settle(ctx); err != nil && classify(ctx, err) == failDown {
		return err
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return nil
}

// settle adds to the quotas in Redis what this node allowed on its own. After
// an error it is tried again; what Redis counted without saying so is then
// counted twice, for a quota must never be exceeded. Where somebody else's
// value is in the way, there is nothing to add to.
func (r *Redis) settle(ctx context.Context) error {
	r.owing.Lock()
	defer r.owing.Unlock()
	now := r.now()
	r.owed = append(r.owed, r.fallback.takeQuotas(now)...)
	w := r.calendar.at(clamp(now))
	for len(r.owed) > 0 {
		q := r.owed[len(r.owed)-1]
		life := w.day.end - now.Unix()
		if q.Unit == UnitMonth {
			life = w.month.end - now.Unix()
		}
		key := appendKey(nil, r.options.Prefix, q.Key)
		arg := appendDoubles(nil, float64(q.Unit), float64(q.Start), float64(q.Used), float64(max(life, 1)))
		if _, err := r.call(ctx, addScript, string(key), arg); err != nil && classify(ctx, err) != failCall {
			return err
		}
		r.owed = r.owed[:len(r.owed)-1]
	}
	return nil
}

// warn tells of an eviction policy under which Redis may forget limits and
// nonces. A user who may not ask for it is told nothing.
func (r *Redis) warn(ctx context.Context) {
	if r.warned {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	settings, err := r.client.ConfigGet(ctx, "maxmemory*").Result()
	if err != nil {
		return
	}
	policy := settings["maxmemory-policy"]
	if policy == "" || strings.HasPrefix(policy, "noeviction") {
		return
	}
	r.warned = true
	if settings["maxmemory"] == "0" {
		return
	}
	r.options.OnWarning(fmt.Errorf("redis may forget limits and nonces when its memory is full: "+
		"maxmemory-policy is %s; set it to noeviction", policy))
}
