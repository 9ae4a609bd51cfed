package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

func (c *cli) messageCommand() *cobra.Command {
	return c.group("message", "Looks up messages that services published, and pushes them again",
		c.messageList(), c.messageShow(), c.messagePush())
}

// selection are the flags by which messages and deliveries are selected.
type selection struct {
	app, subscription, environment, topic, user, state, message string

	since, until string
	after        string
	limit        int
}

// period adds the flags of time.
func (s *selection) period(f *pflag.FlagSet) {
	f.StringVar(&s.since, "since", "", "only those made at this time or later: 2027-01-31T08:00:00Z, or 24h for the last 24 hours")
	f.StringVar(&s.until, "until", "", "only those made before this time")
}

// page adds the flags of a list.
func (s *selection) page(f *pflag.FlagSet) {
	f.IntVar(&s.limit, "limit", 0, "largest number of rows, up to 1000 (default 100)")
	f.StringVar(&s.after, "after", "", "ID of the last row of the page before")
}

// times reads since and until.
func (s *selection) times(now time.Time) (since, until time.Time, err error) {
	if since, err = parseMoment("--since", s.since, now); err != nil {
		return since, until, err
	}
	until, err = parseMoment("--until", s.until, now)
	return since, until, err
}

// query is the selection as the admin API takes it.
func (s *selection) query(now time.Time) (string, error) {
	since, until, err := s.times(now)
	if err != nil {
		return "", err
	}
	return queryOf("app", s.app, "subscription", s.subscription, "environment", s.environment, "topic", s.topic, "user", s.user,
		"state", s.state, "message", s.message, "since", rfc3339(since), "until", rfc3339(until),
		"after", s.after, "limit", nonZero(int64(s.limit))), nil
}

// parseMoment reads a time, or how long ago it was.
func parseMoment(flag, s string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	t, err := parseDate(flag, s)
	if err != nil {
		return t, usagef("%s: %q is no time; want 2027-01-31T08:00:00Z, or 24h for 24 hours ago", flag, s)
	}
	return t, nil
}

func (c *cli) messageList() *cobra.Command {
	var s selection
	cmd := c.verb("list", "Lists messages, the newest first", `  caddy open-platform message list --topic trade.order.created --since 1h
  caddy open-platform message list --user usr_3Kq9m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			q, err := s.query(c.now())
			if err != nil {
				return err
			}
			var page adminapi.MessagePage
			if err := c.call(ctx, http.MethodGet, "/messages"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Messages))
				for i := range page.Messages {
					m := &page.Messages[i]
					rows = append(rows, []string{m.ID, date(m.AcceptedAt), string(m.Environment), m.Topic, m.User, countText(m.Deliveries)})
				}
				table(w, []string{"ID", "ACCEPTED", "ENVIRONMENT", "TOPIC", "USER", "DELIVERIES"}, rows)
				more(cmd, page.Next)
			})
		})
	f := cmd.Flags()
	f.StringVar(&s.environment, "environment", "", "only those of sandbox or production")
	f.StringVar(&s.topic, "topic", "", "only those of the topic")
	f.StringVar(&s.user, "user", "", "only those that concern the merchant with this ID or login")
	s.period(f)
	s.page(f)
	return cmd
}

// countText is how many deliveries are in which state: "delivered 3, failed 1".
func countText(states map[string]int) string {
	var parts []string
	for _, state := range []string{"pending", "delivering", "delivered", "acknowledged", "failed", "suspended", "cancelled"} {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", state, n))
		}
	}
	return strings.Join(parts, ", ")
}

func (c *cli) messageShow() *cobra.Command {
	return c.verb("show ID", "Shows a message as it was published, and its deliveries", `  caddy open-platform message show msg_0036cm8627ac0ihga0a2dq65pk
  caddy open-platform message show msg_0036cm8627ac0ihga0a2dq65pk --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var m adminapi.MessageDetails
			if err := c.call(ctx, http.MethodGet, "/messages/"+url.PathEscape(args[0]), nil, &m); err != nil {
				return err
			}
			return c.print(cmd, m, func(w io.Writer) {
				facts(w, "message", m.ID, "topic", m.Topic, "environment", string(m.Environment), "user", m.User, "key", m.Key,
					"accepted", date(m.AcceptedAt), "happened", date(m.Time), "publisher's id", m.PublisherID, "data", string(m.Data))
				fmt.Fprintln(w)
				deliveryTable(w, m.Deliveries)
			})
		})
}

func (c *cli) messagePush() *cobra.Command {
	var detach bool
	cmd := c.verb("push ID", "Pushes a message again to every app that got it, or should have", `  caddy open-platform message push msg_0036cm8627ac0ihga0a2dq65pk`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var j adminapi.Job
			if err := c.call(ctx, http.MethodPost, "/messages/"+url.PathEscape(args[0])+"/push", nil, &j); err != nil {
				return err
			}
			return c.follow(ctx, cmd, &j, detach)
		})
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait until all are due")
	return cmd
}
