package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) auditCommand() *cobra.Command {
	var who, action, target, since, until string
	var limit int
	var before int64
	cmd := c.verb("audit", "Lists who changed what, newest first", `  caddy open-platform audit
  caddy open-platform audit --target app_7Yq2m0VtB1cD3eF4gH5i --limit 20
  caddy open-platform audit --actor cli:root --since 2027-01-01 --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			from, err := parseDate("--since", since)
			if err != nil {
				return err
			}
			to, err := parseDate("--until", until)
			if err != nil {
				return err
			}
			var out struct {
				Entries []platform.AuditEntry `json:"entries"`
			}
			q := queryOf("actor", who, "action", action, "target", target, "since", rfc3339(from), "until", rfc3339(to),
				"limit", nonZero(int64(limit)), "before", nonZero(before))
			if err := c.call(ctx, http.MethodGet, "/audit"+q, nil, &out); err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Entries))
				for _, e := range out.Entries {
					rows = append(rows, []string{strconv.FormatInt(e.ID, 10), date(e.At), e.Actor, e.Action, e.Target})
				}
				table(w, []string{"ID", "AT", "ACTOR", "ACTION", "TARGET"}, rows)
			})
		})
	cmd.Flags().StringVar(&who, "actor", "", "only changes of this actor: cli:root, catalog:mall.openapi.yaml")
	cmd.Flags().StringVar(&action, "action", "", "only this action: app.create")
	cmd.Flags().StringVar(&target, "target", "", "only changes of this thing: an app's ID, an API's name@version")
	cmd.Flags().StringVar(&since, "since", "", "only from then on: a date or an RFC 3339 time")
	cmd.Flags().StringVar(&until, "until", "", "only before then")
	cmd.Flags().IntVar(&limit, "limit", 0, "largest number of entries (default 100)")
	cmd.Flags().Int64Var(&before, "before", 0, "only entries older than this ID: the next page")
	return cmd
}

func (c *cli) statusCommand() *cobra.Command {
	return c.verb("status", "Shows how the running server is doing", `  caddy open-platform status
  caddy open-platform status --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var s adminapi.StatusReport
			if err := c.call(ctx, http.MethodGet, "/status", nil, &s); err != nil {
				return err
			}
			err := c.print(cmd, s, func(w io.Writer) {
				state, apps, apis := "ok", strconv.Itoa(s.Apps), strconv.Itoa(s.APIs)
				if s.StorageError != "" {
					state, apps, apis = s.StorageError, "not known", "not known"
				}
				health := s.Health.Status
				if down := s.Health.Down(); len(down) > 0 {
					health += ": no answer from " + strings.Join(down, ", ")
				}
				facts(w, "health", health, "storage", s.Storage, "storage state", state, "apps", apps, "APIs", apis,
					"apps in memory", strconv.Itoa(s.CachedApps),
					"nonces in memory", fmt.Sprintf("%d (%d bytes)", s.NonceEntries, s.NonceBytes),
					"limit counters", strconv.Itoa(s.LimitCounters))
			})
			if err == nil && s.StorageError != "" {
				return errShown
			}
			return err
		})
}

func (c *cli) masterKeyCommand() *cobra.Command {
	var yes bool
	rotate := c.verb("rotate", "Makes a new master key and encrypts every secret anew", `  caddy open-platform master-key rotate
  caddy open-platform master-key rotate --yes --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ok, err := c.confirm(cmd, yes, "Make a new master key and encrypt every secret with it?")
			if err != nil || !ok {
				return orDeclined(err)
			}
			return c.rotateMasterKey(ctx, cmd)
		})
	rotate.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c.group("master-key", "Manages the key that encrypts secrets at rest", rotate)
}

// rotateMasterKey follows the progress lines. It has no time limit: the work
// grows with the number of apps, and an interrupt ends it.
func (c *cli) rotateMasterKey(ctx context.Context, cmd *cobra.Command) error {
	lines, err := c.open(ctx, http.MethodPost, "/master-key/rotate", nil)
	if err != nil {
		return err
	}
	defer lines.Close()
	dec := json.NewDecoder(lines)
	for {
		var at adminapi.RotationLine
		if err := dec.Decode(&at); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the rotation was cut off: %w; run it again, it goes on where it stopped", err)
		}
		switch {
		case at.Error != "":
			return fmt.Errorf("rotating the master key: %s", at.Error)
		case at.Finished:
			c.endProgress(cmd)
			return c.print(cmd, at, func(w io.Writer) { fmt.Fprintf(w, "rotated: %d secrets are encrypted with the new key\n", at.Total) })
		default:
			c.progress(cmd, at.Done, at.Total)
		}
	}
}
