package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/pusher"
)

func (c *cli) pushCommand() *cobra.Command {
	return c.group("push", "Pushes many messages again, and tells how the push is doing",
		c.pushStatus(),
		c.pushJob(pusher.Repush, "repush", "Pushes again what failed", `  caddy open-platform push repush --app ak_7Yq2m0VtB1cD3eF4gH5i --since 24h
  caddy open-platform push repush --topic trade.order.created --since 2027-01-31T08:00:00Z --until 2027-01-31T09:00:00Z --detach`),
		c.pushJob(pusher.Reset, "reset", "Pushes everything since a time again, whether it arrived or not", `  caddy open-platform push reset --app ak_7Yq2m0VtB1cD3eF4gH5i --since 2027-01-31T08:00:00Z
  caddy open-platform push reset --app ak_7Yq2m0VtB1cD3eF4gH5i --topic trade.order.created --since 2h`),
		c.pushJob(pusher.Manual, "manual", "Pushes what a filter selects, in any state", `  caddy open-platform push manual --subscription sub_7Yq2m0VtB1cD3eF4gH5i --state cancelled --since 24h`),
		c.jobList(), c.jobShow(), c.pushListen(),
		c.jobVerb("pause", "Stops a job until it is resumed"), c.jobVerb("resume", "Goes on with a paused job"), c.jobVerb("cancel", "Ends a job where it is"))
}

func (c *cli) pushStatus() *cobra.Command {
	return c.verb("status", "Tells how much waits, on all nodes, and what this node did", `  caddy open-platform push status --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var r adminapi.PushReport
			if err := c.call(ctx, http.MethodGet, "/push", nil, &r); err != nil {
				return err
			}
			return c.print(cmd, r, func(w io.Writer) {
				facts(w, "pending", strconv.FormatInt(r.Pending, 10), "delivering", strconv.FormatInt(r.Delivering, 10),
					"suspended", strconv.FormatInt(r.Suspended, 10), "oldest due", date(r.OldestDue),
					"delivered by this node", strconv.FormatUint(r.Node.Delivered, 10), "failed", strconv.FormatUint(r.Node.Failed, 10),
					"tried again", strconv.FormatUint(r.Node.Retried, 10), "circuits open", strconv.Itoa(r.Node.Open))
			})
		})
}

func (c *cli) pushJob(cause pusher.Cause, name, short, example string) *cobra.Command {
	var s selection
	var detach bool
	cmd := c.verb(name, short, example, func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		since, until, err := s.times(c.now())
		if err != nil {
			return err
		}
		body := adminapi.NewJob{Cause: cause, Query: pusher.Query{
			App: s.app, Subscription: s.subscription, Environment: s.environment, Topic: s.topic, User: s.user, Since: since, Until: until,
		}}
		if s.state != "" {
			body.States = strings.Split(s.state, ",")
		}
		var j adminapi.Job
		if err := c.call(ctx, http.MethodPost, "/push/jobs", body, &j); err != nil {
			return err
		}
		return c.follow(ctx, cmd, &j, detach)
	})
	f := cmd.Flags()
	f.StringVar(&s.app, "app", "", "those to the app with this ID or app key")
	f.StringVar(&s.subscription, "subscription", "", "those of the subscription")
	f.StringVar(&s.topic, "topic", "", "those of the topic")
	f.StringVar(&s.environment, "environment", "", "those of sandbox or production")
	f.StringVar(&s.user, "user", "", "those that concern the merchant with this ID or login")
	if cause == pusher.Manual {
		f.StringVar(&s.state, "state", "", "those in these states, separated by commas")
	}
	s.period(f)
	f.BoolVar(&detach, "detach", false, "do not wait until all are due")
	return cmd
}

// followEvery is how often a job is asked how far it has come.
const followEvery = 300 * time.Millisecond

// follow shows how far a job has come until it ends. Who breaks off leaves the
// job running.
func (c *cli) follow(ctx context.Context, cmd *cobra.Command, j *adminapi.Job, detach bool) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for !detach && j.State == pusher.JobRunning {
		c.progress(cmd, int(j.Done), int(j.Total))
		select {
		case <-ctx.Done():
			c.endProgress(cmd)
			fmt.Fprintf(cmd.ErrOrStderr(), "The job goes on: caddy open-platform push job %s\n", j.ID)
			return errShown
		case <-ticker.C:
		}
		if err := c.call(ctx, http.MethodGet, "/push/jobs/"+url.PathEscape(j.ID), nil, j); err != nil {
			return err
		}
	}
	if !detach && j.Total > 0 {
		c.progress(cmd, int(j.Done), int(j.Total))
		c.endProgress(cmd)
	}
	return c.print(cmd, j, func(w io.Writer) { showJob(w, j) })
}

func showJob(w io.Writer, j *adminapi.Job) {
	facts(w, slices.Concat([]string{"job", j.ID, "cause", j.Cause.String()}, selects(&j.Query), []string{
		"state", string(j.State), "pushed again", fmt.Sprintf("%d of %d", j.Done, j.Total),
		"asked for by", j.Actor, "created", date(j.CreatedAt), "updated", date(j.UpdatedAt),
	})...)
}

// selects is what a job was asked to push again: names and values, which may be
// empty.
func selects(q *pusher.Query) []string {
	return []string{
		"app", q.App, "subscription", q.Subscription, "environment", q.Environment, "topic", q.Topic, "user", q.User, "message", q.Message,
		"states", strings.Join(q.States, " "), "since", date(q.Since), "until", date(q.Until),
	}
}

func (c *cli) jobList() *cobra.Command {
	return c.verb("jobs", "Lists jobs, the newest first", `  caddy open-platform push jobs --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page adminapi.JobPage
			if err := c.call(ctx, http.MethodGet, "/push/jobs", nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Jobs))
				for i := range page.Jobs {
					j := &page.Jobs[i]
					var filter []string
					for pair := range slices.Chunk(selects(&j.Query), 2) {
						if pair[1] != "" {
							filter = append(filter, pair[0]+" "+pair[1])
						}
					}
					rows = append(rows, []string{
						j.ID, date(j.CreatedAt), j.Cause.String(), string(j.State), fmt.Sprintf("%d/%d", j.Done, j.Total), j.Actor, strings.Join(filter, ", "),
					})
				}
				table(w, []string{"ID", "CREATED", "CAUSE", "STATE", "DONE", "ACTOR", "FILTER"}, rows)
			})
		})
}

func (c *cli) jobShow() *cobra.Command {
	var detach bool
	cmd := c.verb("job ID", "Shows how far a job has come, until it ends", `  caddy open-platform push job job_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform push job job_7Yq2m0VtB1cD3eF4gH5i --detach --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var j adminapi.Job
			if err := c.call(ctx, http.MethodGet, "/push/jobs/"+url.PathEscape(args[0]), nil, &j); err != nil {
				return err
			}
			return c.follow(ctx, cmd, &j, detach)
		})
	cmd.Flags().BoolVar(&detach, "detach", false, "show it as it is now")
	return cmd
}

func (c *cli) jobVerb(name, short string) *cobra.Command {
	return c.verb(name+" ID", short, `  caddy open-platform push `+name+` job_7Yq2m0VtB1cD3eF4gH5i`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var j adminapi.Job
			if err := c.call(ctx, http.MethodPost, "/push/jobs/"+url.PathEscape(args[0])+"/"+name, nil, &j); err != nil {
				return err
			}
			return c.print(cmd, j, func(w io.Writer) { showJob(w, &j) })
		})
}
