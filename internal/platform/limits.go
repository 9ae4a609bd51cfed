package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// limitsJSON is how [Limits] are written: a period as people write it.
type limitsJSON struct {
	Rate  *rateJSON  `json:"rate,omitempty"`
	Quota *quotaJSON `json:"quota,omitempty"`
}

type rateJSON struct {
	Requests int64  `json:"requests"`
	Period   string `json:"period"`
	Burst    int64  `json:"burst,omitempty"`
}

type quotaJSON struct {
	Day   int64 `json:"day,omitempty"`
	Month int64 `json:"month,omitempty"`
}

// rateToJSON is nil for no rate.
func rateToJSON(r limit.Rate) *rateJSON {
	if r.IsZero() {
		return nil
	}
	return &rateJSON{r.Requests, r.Period.String(), r.Burst}
}

// rate is the opposite of rateToJSON; period is how errors name that field.
func (j rateJSON) rate(period string) (limit.Rate, error) {
	if j == (rateJSON{}) {
		return limit.Rate{}, nil
	}
	every, err := time.ParseDuration(j.Period)
	if err != nil {
		return limit.Rate{}, &FieldError{Field: period, Problem: fmt.Sprintf("%q is no duration", j.Period), Want: `a number with a unit: "1s", "1m", "1h"`}
	}
	return limit.Rate{Requests: j.Requests, Period: every, Burst: j.Burst}, nil
}

// MarshalJSON writes
// {"rate":{"requests":100,"period":"1m0s","burst":200},"quota":{"day":1000}}.
// Zero parts are left out.
func (l Limits) MarshalJSON() ([]byte, error) {
	var j limitsJSON
	j.Rate = rateToJSON(l.Rate)
	if !l.Quota.IsZero() {
		j.Quota = &quotaJSON{l.Quota.Day, l.Quota.Month}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes; unknown members are errors, so
// that a misspelt limit is not taken for none.
func (l *Limits) UnmarshalJSON(data []byte) error {
	var j limitsJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("reading limits: %w", err)
	}
	*l = Limits{}
	if j.Rate != nil {
		var err error
		if l.Rate, err = j.Rate.rate("rate.period"); err != nil {
			return err
		}
	}
	if j.Quota != nil {
		l.Quota = limit.Quota{Day: j.Quota.Day, Month: j.Quota.Month}
	}
	return nil
}

// IsZero tells whether nothing is limited.
func (l Limits) IsZero() bool { return l.Rate.IsZero() && l.Quota.IsZero() }

// check names the faulty field below prefix: "app.rate.period".
func (l Limits) check(prefix string) error {
	if prefix != "" {
		prefix += "."
	}
	if err := l.Rate.Validate(); err != nil {
		return limitError(prefix+"rate", err)
	}
	if err := l.Quota.Validate(); err != nil {
		return limitError(prefix+"quota", err)
	}
	return nil
}

// limitError splits "period: too long" into the field and the problem.
func limitError(field string, err error) error {
	name, problem, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return &FieldError{Field: field, Problem: err.Error()}
	}
	return &FieldError{Field: field + "." + name, Problem: problem}
}
