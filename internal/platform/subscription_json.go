package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/limit"
)

// Rate is a [limit.Rate] that JSON has as it has [Limits]:
// {"requests":100,"period":"1m0s","burst":200}; {} is none.
type Rate limit.Rate

// MarshalJSON writes the rate.
func (r Rate) MarshalJSON() ([]byte, error) {
	j := rateToJSON(limit.Rate(r))
	if j == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the opposite of MarshalJSON. Unknown members are errors.
func (r *Rate) UnmarshalJSON(data []byte) error {
	var j rateJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("reading a rate: %w", err)
	}
	read, err := j.rate("period")
	*r = Rate(read)
	return err
}

// span is a time.Duration that JSON has as people write it: "1m30s".
type span time.Duration

// MarshalText writes it as [time.Duration] prints it.
func (s span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText is the opposite of MarshalText.
func (s *span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = span(d)
	return err
}

// plainSubscription is a Subscription without its methods.
type plainSubscription Subscription

// subscriptionJSON hides the members of a subscription that JSON has in
// another form.
type subscriptionJSON struct {
	plainSubscription
	HoldFor  span   `json:"hold_for,omitempty"`
	Rate     *Rate  `json:"rate,omitempty"`
	Schedule []span `json:"schedule,omitempty"`
}

// MarshalJSON writes spans of time as people do: "hold_for":"1h0m0s".
func (s Subscription) MarshalJSON() ([]byte, error) {
	j := subscriptionJSON{plainSubscription: plainSubscription(s), HoldFor: span(s.HoldFor)}
	if !s.Rate.IsZero() {
		j.Rate = (*Rate)(&s.Rate)
	}
	for _, d := range s.Schedule {
		j.Schedule = append(j.Schedule, span(d))
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the opposite of MarshalJSON.
func (s *Subscription) UnmarshalJSON(data []byte) error {
	var j subscriptionJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("reading a subscription: %w", err)
	}
	*s = Subscription(j.plainSubscription)
	s.HoldFor = time.Duration(j.HoldFor)
	if j.Rate != nil {
		s.Rate = limit.Rate(*j.Rate)
	}
	for _, d := range j.Schedule {
		s.Schedule = append(s.Schedule, time.Duration(d))
	}
	return nil
}
