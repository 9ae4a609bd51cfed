package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) subscriptionCommand() *cobra.Command {
	return c.group("subscription", "Manages what is pushed to apps, and where",
		c.subscriptionCreate(), c.subscriptionList(), c.subscriptionShow(), c.subscriptionUpdate(),
		c.subscriptionChange("pause", "Lets messages wait until it is resumed"),
		c.subscriptionChange("resume", "Goes on with what was paused or disabled"),
		c.subscriptionChange("verify", "Sends a challenge to the URL; what passes gets messages from then on"),
		c.subscriptionDelete(),
	)
}

// subscriptionPath is the path of a subscription on the admin API.
func subscriptionPath(id string) string { return "/subscriptions/" + url.PathEscape(id) }

func (c *cli) subscriptionCreate() *cobra.Command {
	var body adminapi.NewSubscription
	var flags subscriptionFlags
	var environment string
	cmd := c.verb("create", "Subscribes topics for an app; the first time in an environment it prints the app's push keys, once", `  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --url https://erp.example.com/push --topic trade.order.created
  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --environment production --url https://erp.example.com/push \
      --topic trade.order.created --topic trade.order.status_changed --ordered --where "/total_amount ge 10000"
  caddy open-platform subscription create --app ak_7Yq2m0VtB1cD3eF4gH5i --url https://erp.example.com/push --topic trade.order.created --json > push-keys.json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			switch {
			case body.App == "":
				return usagef("--app is missing; want the app's ID or app key")
			case !cmd.Flags().Changed("url"):
				return usagef("--url is missing; want where messages are posted: https://erp.example.com/push")
			case !cmd.Flags().Changed("topic"):
				return usagef("--topic is missing; want a topic of \"topic list\"")
			}
			var err error
			if body.SubscriptionSettings, err = flags.settings(cmd); err != nil {
				return err
			}
			body.Environment = platform.Environment(environment)
			if err := c.askKeys(ctx, cmd, http.MethodPost, "/subscriptions", body); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "Messages come once the URL is verified: subscription verify ID")
			return nil
		})
	cmd.Flags().StringVar(&body.App, "app", "", "ID or app key of the app (required)")
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	flags.add(cmd)
	return cmd
}

func (c *cli) subscriptionUpdate() *cobra.Command {
	var flags subscriptionFlags
	cmd := c.verb("update ID", "Changes what the flags name; another URL must be verified again", `  caddy open-platform subscription update sub_7Yq2m0VtB1cD3eF4gH5i --url https://erp.example.com/push2
  caddy open-platform subscription update sub_7Yq2m0VtB1cD3eF4gH5i --topic trade.order.created --topic trade.order.status_changed
  caddy open-platform subscription update sub_7Yq2m0VtB1cD3eF4gH5i --rate 50/s --ordered=false --no-filter`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			settings, err := flags.settings(cmd)
			if err != nil {
				return err
			}
			if reflect.ValueOf(settings).IsZero() {
				return usagef("nothing to change: give at least one of the flags that --help lists, such as --url")
			}
			return c.askKeys(ctx, cmd, http.MethodPatch, subscriptionPath(args[0]), settings)
		})
	flags.add(cmd)
	cmd.Flags().BoolVar(&flags.noFilter, "no-filter", false, "take all messages of the topics")
	return cmd
}

// askKeys makes a call that answers with the subscription and the push keys
// that were made for it, and shows both.
func (c *cli) askKeys(ctx context.Context, cmd *cobra.Command, method, path string, body any) error {
	var made adminapi.SubscriptionWithKeys
	if err := c.call(ctx, method, path, body, &made); err != nil {
		return err
	}
	return c.print(cmd, made, func(w io.Writer) {
		showSubscription(w, &made.Subscription)
		for i := range made.PushKeys {
			fmt.Fprintln(w)
			showIssuedPushKey(w, &made.PushKeys[i])
		}
	})
}

func (c *cli) subscriptionList() *cobra.Command {
	var app, environment, topic, status, after string
	var limit int
	cmd := c.verb("list", "Lists subscriptions", `  caddy open-platform subscription list
  caddy open-platform subscription list --app ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform subscription list --topic trade.order.created --status disabled --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page adminapi.SubscriptionPage
			q := queryOf("app", app, "environment", environment, "topic", topic, "status", status, "after", after, "limit", nonZero(int64(limit)))
			if err := c.call(ctx, http.MethodGet, "/subscriptions"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Subscriptions))
				for _, s := range page.Subscriptions {
					rows = append(rows, []string{s.ID, s.App, string(s.Environment), string(s.Status), date(s.FailingSince), nonZero(int64(len(s.Topics))), s.URL})
				}
				table(w, []string{"ID", "APP", "ENVIRONMENT", "STATUS", "FAILING SINCE", "TOPICS", "URL"}, rows)
				more(cmd, page.Next)
			})
		})
	cmd.Flags().StringVar(&app, "app", "", "only those of the app with this ID or app key")
	cmd.Flags().StringVar(&environment, "environment", "", "only sandbox or production")
	cmd.Flags().StringVar(&topic, "topic", "", "only those that have this topic")
	cmd.Flags().StringVar(&status, "status", "", "only unverified, active, paused or disabled ones")
	cmd.Flags().IntVar(&limit, "limit", 0, "largest number of subscriptions, up to 1000 (default 100)")
	cmd.Flags().StringVar(&after, "after", "", "ID of the last subscription of the page before")
	return cmd
}

func (c *cli) subscriptionShow() *cobra.Command {
	return c.verb("show ID", "Shows a subscription", `  caddy open-platform subscription show sub_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform subscription show sub_7Yq2m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askSubscription(ctx, cmd, http.MethodGet, subscriptionPath(args[0]))
		})
}

// subscriptionChange makes a verb that only names the subscription.
func (c *cli) subscriptionChange(name, short string) *cobra.Command {
	return c.verb(name+" ID", short, "  caddy open-platform subscription "+name+" sub_7Yq2m0VtB1cD3eF4gH5i",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askSubscription(ctx, cmd, http.MethodPost, subscriptionPath(args[0])+"/"+name)
		})
}

func (c *cli) subscriptionDelete() *cobra.Command {
	var yes bool
	cmd := c.verb("delete ID", "Deletes a subscription; what waits for it is cancelled", `  caddy open-platform subscription delete sub_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform subscription delete sub_7Yq2m0VtB1cD3eF4gH5i --yes`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ok, err := c.confirm(cmd, yes, "Delete the subscription "+args[0]+"? What waits for it is cancelled.")
			if err != nil || !ok {
				return orDeclined(err)
			}
			return c.remove(ctx, cmd, subscriptionPath(args[0]), "subscription "+args[0])
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// askSubscription makes a call that answers with the subscription, and shows it.
func (c *cli) askSubscription(ctx context.Context, cmd *cobra.Command, method, path string) error {
	var s platform.Subscription
	if err := c.call(ctx, method, path, nil, &s); err != nil {
		return err
	}
	return c.print(cmd, s, func(w io.Writer) { showSubscription(w, &s) })
}

func showSubscription(w io.Writer, s *platform.Subscription) {
	word := func(on bool, text string) string {
		if on {
			return text
		}
		return ""
	}
	span := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return shortDuration(d)
	}
	waits := make([]string, len(s.Schedule))
	for i, d := range s.Schedule {
		waits[i] = shortDuration(d)
	}
	facts(w, "subscription", s.ID, "app", s.App, "environment", string(s.Environment), "url", s.URL, "topics", strings.Join(s.Topics, " "),
		"status", string(s.Status), "reason", s.Reason, "failing since", date(s.FailingSince), "verified", date(s.VerifiedAt),
		"merchants", strings.Join(s.Filter.Users, " "), "order", word(s.Ordered, "kept for each key"), "hold for", span(s.HoldFor),
		"concurrency", nonZero(int64(s.Concurrency)), "rate", formatLimits(platform.Limits{Rate: s.Rate}), "schedule", strings.Join(waits, " "),
		"format", string(s.Format), "signatures", word(s.Asymmetric, "HMAC and Ed25519"), "created", date(s.CreatedAt), "changed", date(s.UpdatedAt))
	section(w, "Conditions", []string{"POINTER", "OPERATION", "VALUE"}, s.Filter.Conditions, func(one platform.Condition) []string {
		return []string{one.Pointer, one.Op, string(one.Value)}
	})
}
