package command

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// subscriptionFlags are the flags of what an app chooses about a subscription.
type subscriptionFlags struct {
	url, rate, format    string
	topics, users, where []string
	schedule             []string
	ordered, asymmetric  bool
	noFilter             bool
	holdFor              time.Duration
	concurrency          int
}

func (f *subscriptionFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "where messages are posted")
	flags.StringArrayVar(&f.topics, "topic", nil, "topic to get (repeatable)")
	flags.StringArrayVar(&f.users, "user", nil, "only messages about the merchant with this ID or login (repeatable)")
	flags.StringArrayVar(&f.where, "where", nil, `only messages whose data meet the condition: "POINTER OPERATION VALUE" (repeatable; all must hold). Operations: eq, ne, in, exists, gt, ge, lt, le, prefix`)
	flags.BoolVar(&f.ordered, "ordered", false, "keep messages of one key in order")
	flags.DurationVar(&f.holdFor, "hold-for", 0, "how long a failing message may hold up those after it, with --ordered (default 1h)")
	flags.IntVar(&f.concurrency, "concurrency", 0, "requests under way at once, up to 1000; 0 for the default of 16")
	flags.StringVar(&f.rate, "rate", "", `requests of each node: 100/s, "100/1m burst 200", or none`)
	flags.StringSliceVar(&f.schedule, "schedule", nil, "waits between attempts: 5s,1m,1h, or none for the platform's")
	flags.StringVar(&f.format, "format", "", "encrypted (the default), or plain: anybody on the way can read it")
	flags.BoolVar(&f.asymmetric, "asymmetric", false, "sign with Ed25519 besides")
}

// settings are those that the command line names.
func (f *subscriptionFlags) settings(cmd *cobra.Command) (s adminapi.SubscriptionSettings, err error) {
	given := cmd.Flags().Changed
	if given("url") {
		s.URL = &f.url
	}
	s.Topics = f.topics
	if given("user") || given("where") || f.noFilter {
		if f.noFilter && (given("user") || given("where")) {
			return s, usagef("--no-filter: leave it out with --user and --where, which replace the whole filter")
		}
		s.Filter = &platform.MessageFilter{Users: f.users}
		for _, text := range f.where {
			condition, err := parseCondition(text)
			if err != nil {
				return s, err
			}
			s.Filter.Conditions = append(s.Filter.Conditions, condition)
		}
	}
	if given("ordered") {
		s.Ordered = &f.ordered
	}
	if given("hold-for") {
		s.HoldFor = new(f.holdFor.String())
	}
	if given("concurrency") {
		s.Concurrency = &f.concurrency
	}
	if given("rate") {
		limits, err := parseLimits("--rate", f.rate)
		if err != nil {
			return s, usagef(`--rate: %q is no rate; want 100/s, "100/1m burst 200", or none`, f.rate)
		}
		if !limits.Quota.IsZero() {
			return s, usagef("--rate: %q has a quota; want a rate alone: 100/s", f.rate)
		}
		s.Rate = new(platform.Rate(limits.Rate))
	}
	if given("schedule") {
		s.Schedule = f.schedule
		if len(f.schedule) == 1 && f.schedule[0] == "none" {
			s.Schedule = []string{}
		}
	}
	if given("format") {
		s.Format = new(platform.PushFormat(f.format))
	}
	if given("asymmetric") {
		s.Asymmetric = &f.asymmetric
	}
	return s, nil
}

// parseCondition reads "/status eq paid". A value that is no JSON is a string, and
// so is a prefix.
func parseCondition(text string) (platform.Condition, error) {
	pointer, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	op, value, ok := strings.Cut(strings.TrimSpace(rest), " ")
	if value = strings.TrimSpace(value); !ok || value == "" {
		return platform.Condition{}, usagef(`--where: %q is no condition; want "POINTER OPERATION VALUE", as "/status eq paid" or "/total_amount ge 10000"`, text)
	}
	raw := json.RawMessage(value)
	if !json.Valid(raw) || op == "prefix" && raw[0] != '"' {
		raw, _ = json.Marshal(value) // a string cannot fail
	}
	return platform.Condition{Pointer: pointer, Op: op, Value: raw}, nil
}
