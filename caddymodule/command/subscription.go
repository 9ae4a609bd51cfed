package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) subscriptionCommand() *cobra.Command {
	return c.group("subscription", "Manages which topics apps get, and where",
		c.subscriptionCreate(), c.subscriptionList(), c.subscriptionShow(), c.subscriptionUpdate(),
		c.subscriptionVerb("verify", "Posts a challenge to the URL, which becomes active when it answers"),
		c.subscriptionVerb("pause", "Lets messages wait"),
		c.subscriptionVerb("resume", "Delivers again what was paused or disabled"),
		c.subscriptionDelete())
}

// subscriptionFlags are the settings of a subscription as flags.
type subscriptionFlags struct {
	url, holdFor, rate, format string
	topics, users, conditions  []string
	schedule                   []string
	concurrency                int
	ordered, asymmetric        bool
}

func (s *subscriptionFlags) attach(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.url, "url", "", "where messages are posted: https://erp.example.com/messages")
	f.StringArrayVar(&s.topics, "topic", nil, "a topic to get (repeatable)")
	f.StringArrayVar(&s.users, "user", nil, "only messages about the merchant with this ID or login (repeatable)")
	f.StringArrayVar(&s.conditions, "condition", nil, `only messages whose data fulfil this: '/status eq "paid"' (repeatable)`)
	f.BoolVar(&s.ordered, "ordered", false, "messages of one key one at a time, in their order")
	f.StringVar(&s.holdFor, "hold-for", "", "how long a failing message may hold up those of its key (default 1h)")
	f.IntVar(&s.concurrency, "concurrency", 0, "requests at once (default 16)")
	f.StringVar(&s.rate, "rate", "", `requests in a time: "100/1m", or "none"`)
	f.StringSliceVar(&s.schedule, "schedule", nil, "waits between attempts: 5s,30s,2m (default the platform's)")
	f.StringVar(&s.format, "format", "", "encrypted (the default), or plain, which only staff may allow")
	f.BoolVar(&s.asymmetric, "asymmetric", false, "sign with Ed25519 as well")
}

// body is what was given of the settings.
func (s *subscriptionFlags) body(cmd *cobra.Command) (*adminapi.SubscriptionBody, error) {
	given := cmd.Flags().Changed
	b := &adminapi.SubscriptionBody{Topics: s.topics}
	if given("url") {
		b.URL = &s.url
	}
	if given("user") || given("condition") {
		b.Filter = &platform.MessageFilter{Users: s.users}
		for _, text := range s.conditions {
			condition, err := parseCondition(text)
			if err != nil {
				return nil, err
			}
			b.Filter.Conditions = append(b.Filter.Conditions, condition)
		}
	}
	if given("ordered") {
		b.Ordered = &s.ordered
	}
	if given("hold-for") {
		b.HoldFor = &s.holdFor
	}
	if given("concurrency") {
		b.Concurrency = &s.concurrency
	}
	if given("rate") {
		limits, err := parseLimits("--rate", s.rate)
		if err != nil {
			return nil, err
		}
		if !limits.Quota.IsZero() {
			return nil, usagef("--rate: a subscription has no quota; want 100/1m")
		}
		b.Rate = (*platform.Rate)(&limits.Rate)
	}
	if given("schedule") {
		b.Schedule = &s.schedule
	}
	if given("format") {
		format := platform.PushFormat(s.format)
		b.Format = &format
	}
	if given("asymmetric") {
		b.Asymmetric = &s.asymmetric
	}
	return b, nil
}

// parseCondition reads a pointer, an operator and a value as JSON; a value that
// is no JSON is a string.
func parseCondition(text string) (platform.Condition, error) {
	words := strings.SplitN(strings.TrimSpace(text), " ", 3)
	if len(words) < 2 || len(words) < 3 && words[1] != "exists" {
		return platform.Condition{}, usagef(`--condition: %q is no condition; want '/status eq "paid"'`, text)
	}
	c := platform.Condition{Pointer: words[0], Op: words[1], Value: json.RawMessage("true")}
	if len(words) == 3 {
		c.Value = json.RawMessage(words[2])
		if !json.Valid(c.Value) {
			quoted, err := json.Marshal(words[2])
			if err != nil {
				return c, usagef("--condition: %v", err)
			}
			c.Value = quoted
		}
	}
	return c, nil
}

func (c *cli) subscriptionCreate() *cobra.Command {
	var s subscriptionFlags
	var app, environment string
	cmd := c.verb("create", "Subscribes an app to topics; its first subscription makes its push keys, shown this once", `  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --url https://erp.example.com/messages --topic trade.order.created
  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --environment production --url https://erp.example.com/messages \
    --topic trade.order.created --topic trade.order.status_changed --condition '/status eq "paid"' --ordered --json > push-keys.json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if app == "" {
				return usagef("--app is missing: an app's ID or app key")
			}
			body, err := s.body(cmd)
			if err != nil {
				return err
			}
			body.App, body.Environment = app, platform.Environment(environment)
			return c.askSubscription(ctx, cmd, http.MethodPost, "/subscriptions", body)
		})
	s.attach(cmd)
	cmd.Flags().StringVar(&app, "app", "", "ID or app key of the app (required)")
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	return cmd
}

func (c *cli) subscriptionUpdate() *cobra.Command {
	var s subscriptionFlags
	cmd := c.verb("update ID", "Changes the settings that are given; with another URL it must be verified again", `  caddy open-platform subscription update sub_7Yq2m0VtB1cD3eF4gH5i --concurrency 4 --rate 100/1m
  caddy open-platform subscription update sub_7Yq2m0VtB1cD3eF4gH5i --topic trade.order.created --topic logistics.waybill.reported`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			body, err := s.body(cmd)
			if err != nil {
				return err
			}
			return c.askSubscription(ctx, cmd, http.MethodPatch, "/subscriptions/"+url.PathEscape(args[0]), body)
		})
	s.attach(cmd)
	return cmd
}

// askSubscription makes or changes a subscription and prints it, with the keys
// that came of it.
func (c *cli) askSubscription(ctx context.Context, cmd *cobra.Command, method, path string, body *adminapi.SubscriptionBody) error {
	var out adminapi.IssuedSubscription
	if err := c.call(ctx, method, path, body, &out); err != nil {
		return err
	}
	return c.print(cmd, out, func(w io.Writer) {
		showSubscription(w, &out.Subscription)
		for _, k := range out.Keys {
			showPushKey(w, &k)
		}
		if out.Subscription.Status == platform.Unverified {
			fmt.Fprintf(cmd.ErrOrStderr(), "Next: caddy open-platform subscription verify %s\n", out.Subscription.ID)
		}
	})
}

func showSubscription(w io.Writer, s *platform.Subscription) {
	rate, schedule := "", make([]string, len(s.Schedule))
	if !s.Rate.IsZero() {
		rate = fmt.Sprintf("%d/%v", s.Rate.Requests, s.Rate.Period)
	}
	for i, wait := range s.Schedule {
		schedule[i] = wait.String()
	}
	var conditions []string
	for _, one := range s.Filter.Conditions {
		conditions = append(conditions, fmt.Sprintf("%s %s %s", one.Pointer, one.Op, one.Value))
	}
	ordered, asymmetric, hold := "", "", ""
	if s.Ordered {
		ordered = "yes"
	}
	if s.Asymmetric {
		asymmetric = "yes"
	}
	if s.HoldFor > 0 {
		hold = s.HoldFor.String()
	}
	facts(w, "subscription", s.ID, "app", s.App, "environment", string(s.Environment), "url", s.URL, "status", string(s.Status), "reason", s.Reason,
		"topics", strings.Join(s.Topics, " "), "users", strings.Join(s.Filter.Users, " "), "conditions", strings.Join(conditions, "; "),
		"ordered", ordered, "hold for", hold, "concurrency", nonZero(int64(s.Concurrency)), "rate", rate, "schedule", strings.Join(schedule, " "),
		"format", string(s.Format), "Ed25519", asymmetric, "failing since", date(s.FailingSince), "verified", date(s.VerifiedAt), "created", date(s.CreatedAt))
}

func (c *cli) subscriptionList() *cobra.Command {
	var app, environment, topic, status, after string
	var limit int
	cmd := c.verb("list", "Lists subscriptions", `  caddy open-platform subscription list --app ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform subscription list --status disabled --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page adminapi.SubscriptionPage
			q := queryOf("app", app, "environment", environment, "topic", topic, "status", status, "after", after, "limit", nonZero(int64(limit)))
			if err := c.call(ctx, http.MethodGet, "/subscriptions"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Subscriptions))
				for i := range page.Subscriptions {
					s := &page.Subscriptions[i]
					rows = append(rows, []string{s.ID, s.App, string(s.Environment), string(s.Status), s.URL, strings.Join(s.Topics, " ")})
				}
				table(w, []string{"ID", "APP", "ENVIRONMENT", "STATUS", "URL", "TOPICS"}, rows)
				more(cmd, page.Next)
			})
		})
	f := cmd.Flags()
	f.StringVar(&app, "app", "", "only those of the app with this ID or app key")
	f.StringVar(&environment, "environment", "", "only those of sandbox or production")
	f.StringVar(&topic, "topic", "", "only those of the topic")
	f.StringVar(&status, "status", "", "only those that are unverified, active, paused or disabled")
	f.IntVar(&limit, "limit", 0, "largest number of subscriptions, up to 1000 (default 100)")
	f.StringVar(&after, "after", "", "ID of the last one of the page before")
	return cmd
}

func (c *cli) subscriptionShow() *cobra.Command {
	return c.subscriptionAsk("show ID", "Shows a subscription", http.MethodGet, "", "show")
}

func (c *cli) subscriptionVerb(name, short string) *cobra.Command {
	return c.subscriptionAsk(name+" ID", short, http.MethodPost, "/"+name, name)
}

func (c *cli) subscriptionAsk(use, short, method, suffix, name string) *cobra.Command {
	return c.verb(use, short, `  caddy open-platform subscription `+name+` sub_7Yq2m0VtB1cD3eF4gH5i`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var s platform.Subscription
			if err := c.call(ctx, method, "/subscriptions/"+url.PathEscape(args[0])+suffix, nil, &s); err != nil {
				return err
			}
			return c.print(cmd, s, func(w io.Writer) { showSubscription(w, &s) })
		})
}

func (c *cli) subscriptionDelete() *cobra.Command {
	var yes bool
	cmd := c.verb("delete ID", "Removes a subscription; what waits for it is cancelled", `  caddy open-platform subscription delete sub_7Yq2m0VtB1cD3eF4gH5i --yes`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ok, err := c.confirm(cmd, yes, "Delete the subscription "+args[0]+"? What waits for it is cancelled.")
			if err != nil || !ok {
				return orDeclined(err)
			}
			if err := c.call(ctx, http.MethodDelete, "/subscriptions/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return c.print(cmd, map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "deleted", args[0]) })
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
