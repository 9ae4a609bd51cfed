package command

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) planCommand() *cobra.Command {
	list := c.verb("list", "Lists plans", "  caddy open-platform plan list",
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var out struct {
				Plans []platform.Plan `json:"plans"`
			}
			if err := c.call(ctx, http.MethodGet, "/plans", nil, &out); err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Plans))
				for _, p := range out.Plans {
					rows = append(rows, []string{p.Name, orNone(formatLimits(p.App)), orNone(formatLimits(p.AppAPI)), orNone(formatLimits(p.AppUser)), p.Title})
				}
				table(w, []string{"PLAN", "APP", "APP × API", "APP × MERCHANT", "TITLE"}, rows)
			})
		})
	show := c.verb("show NAME", "Shows a plan", "  caddy open-platform plan show default",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askPlan(ctx, cmd, http.MethodGet, args[0], nil)
		})
	return c.group("plan", "Manages plans: the rates and quotas of apps", list, show, c.planPut(),
		c.deletion("plan", "/plans/", "  caddy open-platform plan delete gold"))
}

func (c *cli) planPut() *cobra.Command {
	var title, app, appAPI, appUser string
	var apis []string
	cmd := c.verb("put NAME", "Creates or replaces a plan", `  caddy open-platform plan put default --app "100/1m burst 200, 10000/day"
  caddy open-platform plan put gold --title Gold --app 1000/1m --app-api 200/1m --app-user 50/1m --api trade.order.list=20/1s`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			p := platform.Plan{Name: args[0], Title: title}
			for _, part := range []struct {
				flag, text string
				into       *platform.Limits
			}{{"--app", app, &p.App}, {"--app-api", appAPI, &p.AppAPI}, {"--app-user", appUser, &p.AppUser}} {
				if part.text == "" {
					continue
				}
				var err error
				if *part.into, err = parseLimits(part.flag, part.text); err != nil {
					return err
				}
			}
			for _, text := range apis {
				name, limits, ok := strings.Cut(text, "=")
				if !ok {
					return usagef("--api: %q has no \"=\"; want NAME=LIMITS: trade.order.list=20/1s", text)
				}
				l, err := parseLimits("--api", limits)
				if err != nil {
					return err
				}
				if p.APIs == nil {
					p.APIs = map[string]platform.Limits{}
				}
				p.APIs[name] = l
			}
			return c.askPlan(ctx, cmd, http.MethodPut, p.Name, p)
		})
	cmd.Flags().StringVar(&title, "title", "", "title that people read")
	cmd.Flags().StringVar(&app, "app", "", "limits of all calls of an app together: "+wantLimits)
	cmd.Flags().StringVar(&appAPI, "app-api", "", "limits of an app's calls to each API")
	cmd.Flags().StringVar(&appUser, "app-user", "", "limits of an app's calls for each merchant")
	cmd.Flags().StringArrayVar(&apis, "api", nil, "NAME=LIMITS of one API instead of --app-api (repeatable)")
	return cmd
}

func (c *cli) askPlan(ctx context.Context, cmd *cobra.Command, method, name string, body any) error {
	var p platform.Plan
	if err := c.call(ctx, method, "/plans/"+url.PathEscape(name), body, &p); err != nil {
		return err
	}
	return c.print(cmd, p, func(w io.Writer) {
		pairs := []string{
			"plan", p.Name, "title", p.Title, "app", orNone(formatLimits(p.App)),
			"app × API", orNone(formatLimits(p.AppAPI)), "app × merchant", orNone(formatLimits(p.AppUser)),
		}
		for _, api := range slices.Sorted(maps.Keys(p.APIs)) {
			pairs = append(pairs, api, orNone(formatLimits(p.APIs[api])))
		}
		facts(w, pairs...)
	})
}

func (c *cli) limitsCommand() *cobra.Command {
	show := c.verb("show", "Shows the limits of all calls together", "  caddy open-platform limits show",
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return c.askLimits(ctx, cmd, http.MethodGet, nil)
		})
	set := c.verb("set LIMITS", "Limits all calls together", `  caddy open-platform limits set 5000/1s
  caddy open-platform limits set "5000/1s burst 8000, 100000000/day"
  caddy open-platform limits set none`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			l, err := parseLimits("LIMITS", args[0])
			if err != nil {
				return err
			}
			return c.askLimits(ctx, cmd, http.MethodPut, l)
		})
	return c.group("limits", "Manages the limits of the whole platform", show, set)
}

func (c *cli) askLimits(ctx context.Context, cmd *cobra.Command, method string, body any) error {
	var l platform.Limits
	if err := c.call(ctx, method, "/limits", body, &l); err != nil {
		return err
	}
	return c.print(cmd, l, func(w io.Writer) { facts(w, "platform", orNone(formatLimits(l))) })
}
