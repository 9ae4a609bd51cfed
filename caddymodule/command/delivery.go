package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

func (c *cli) deliveryCommand() *cobra.Command {
	return c.group("delivery", "Looks up what was pushed to which app, and pushes it again",
		c.deliveryList(), c.deliveryShow(),
		c.deliveryVerb("push", "Pushes a delivery now, whatever its state: one attempt more"),
		c.deliveryVerb("cancel", "Ends a delivery that is not over"))
}

func (c *cli) deliveryList() *cobra.Command {
	var s selection
	cmd := c.verb("list", "Lists deliveries, the newest first", `  caddy open-platform delivery list --app ak_7Yq2m0VtB1cD3eF4gH5i --state failed
  caddy open-platform delivery list --topic trade.order.created --since 24h --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			q, err := s.query(c.now())
			if err != nil {
				return err
			}
			var page adminapi.DeliveryPage
			if err := c.call(ctx, http.MethodGet, "/deliveries"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				deliveryTable(w, page.Deliveries)
				more(cmd, page.Next)
			})
		})
	f := cmd.Flags()
	f.StringVar(&s.app, "app", "", "only those to the app with this ID or app key")
	f.StringVar(&s.subscription, "subscription", "", "only those of the subscription")
	f.StringVar(&s.environment, "environment", "", "only those of sandbox or production")
	f.StringVar(&s.topic, "topic", "", "only those of the topic")
	f.StringVar(&s.user, "user", "", "only those that concern the merchant with this ID or login")
	f.StringVar(&s.state, "state", "", "only those in these states: pending, delivering, delivered, failed, suspended, cancelled, acknowledged")
	f.StringVar(&s.message, "message", "", "only those of the message")
	s.period(f)
	s.page(f)
	return cmd
}

func deliveryTable(w io.Writer, list []adminapi.Delivery) {
	rows := make([][]string, 0, len(list))
	for i := range list {
		d := &list[i]
		last := string(d.LastError)
		if d.LastStatus != 0 {
			last = strconv.Itoa(d.LastStatus)
		}
		rows = append(rows, []string{
			d.ID, date(d.CreatedAt), d.State.String(), strconv.Itoa(d.Attempts), last, date(d.DueAt), d.Cause.String(), d.AppKey, d.Topic,
		})
	}
	table(w, []string{"ID", "CREATED", "STATE", "ATTEMPTS", "LAST", "DUE", "CAUSE", "APP", "TOPIC"}, rows)
}

func (c *cli) deliveryShow() *cobra.Command {
	return c.verb("show ID", "Shows a delivery with every attempt, and what is posted", `  caddy open-platform delivery show dlv_0036cm8627ac00000000000008
  caddy open-platform delivery show dlv_0036cm8627ac00000000000008 --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var d adminapi.DeliveryDetails
			if err := c.call(ctx, http.MethodGet, "/deliveries/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return c.print(cmd, d, func(w io.Writer) {
				showDelivery(w, &d.Delivery)
				key := ""
				if d.KeyNumber > 0 {
					key = strconv.Itoa(d.KeyNumber)
				}
				facts(w, "push key", key, "body", string(d.Body))
				fmt.Fprintln(w)
				rows := make([][]string, 0, len(d.AttemptLog))
				for _, a := range d.AttemptLog {
					status := ""
					if a.Status != 0 {
						status = strconv.Itoa(a.Status)
					}
					rows = append(rows, []string{
						strconv.Itoa(a.Number), a.Cause.String(), date(a.StartedAt), fmt.Sprintf("%.1f ms", a.DurationMS), a.Address, status,
						string(a.ErrorClass), a.Node, a.Error, beginning(a.Response),
					})
				}
				table(w, []string{"ATTEMPT", "CAUSE", "STARTED", "TOOK", "ADDRESS", "STATUS", "FAILURE", "NODE", "REASON", "ANSWER"}, rows)
			})
		})
}

// answerShown is how many characters of an answer a table shows.
const answerShown = 200

// beginning is the first of a long text. JSON has all of it.
func beginning(text string) string {
	if runes := []rune(text); len(runes) > answerShown {
		return string(runes[:answerShown]) + "…"
	}
	return text
}

func showDelivery(w io.Writer, d *adminapi.Delivery) {
	facts(w, "delivery", d.ID, "message", d.Message, "topic", d.Topic, "app", d.App, "app key", d.AppKey, "subscription", d.Subscription,
		"environment", string(d.Environment), "user", d.User, "key", d.Key, "state", d.State.String(), "cause", d.Cause.String(),
		"attempts", strconv.Itoa(d.Attempts), "created", date(d.CreatedAt), "due", date(d.DueAt), "delivered", date(d.DeliveredAt),
		"repeats", d.Origin)
}

func (c *cli) deliveryVerb(name, short string) *cobra.Command {
	return c.verb(name+" ID", short, `  caddy open-platform delivery `+name+` dlv_0036cm8627ac00000000000008`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var d adminapi.Delivery
			if err := c.call(ctx, http.MethodPost, "/deliveries/"+url.PathEscape(args[0])+"/"+name, nil, &d); err != nil {
				return err
			}
			return c.print(cmd, d, func(w io.Writer) { showDelivery(w, &d) })
		})
}
