package command

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) packageCommand() *cobra.Command {
	var title, description string
	list := c.verb("list", "Lists packages", "  caddy open-platform package list",
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var out struct {
				Packages []platform.Package `json:"packages"`
			}
			if err := c.call(ctx, http.MethodGet, "/packages", nil, &out); err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.Packages))
				for _, p := range out.Packages {
					rows = append(rows, []string{p.Name, p.Source, p.Title})
				}
				table(w, []string{"PACKAGE", "SOURCE", "TITLE"}, rows)
			})
		})
	show := c.verb("show NAME", "Shows a package", "  caddy open-platform package show trade",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askPackage(ctx, cmd, http.MethodGet, args[0], nil)
		})
	put := c.verb("put NAME", "Creates or changes a package", `  caddy open-platform package put reports --title "Sales reports"`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askPackage(ctx, cmd, http.MethodPut, args[0], map[string]string{"title": title, "description": description})
		})
	put.Flags().StringVar(&title, "title", "", "title that people read")
	put.Flags().StringVar(&description, "description", "", "what it is for")
	return c.group("package", "Manages permission packages", list, show, put,
		c.deletion("package", "/packages/", "  caddy open-platform package delete reports"))
}

func (c *cli) askPackage(ctx context.Context, cmd *cobra.Command, method, name string, body any) error {
	var p platform.Package
	if err := c.call(ctx, method, "/packages/"+url.PathEscape(name), body, &p); err != nil {
		return err
	}
	return c.print(cmd, p, func(w io.Writer) {
		facts(w, "package", p.Name, "title", p.Title, "description", p.Description, "source", p.Source)
	})
}

// deletion makes the verb that deletes one named thing.
func (c *cli) deletion(what, path, example string) *cobra.Command {
	return c.verb("delete NAME", "Deletes a "+what+" that is not in use", example,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.remove(ctx, cmd, path+url.PathEscape(args[0]), what+" "+args[0])
		})
}

func (c *cli) ipGroupCommand() *cobra.Command {
	list := c.verb("list", "Lists IP groups with their rules", "  caddy open-platform ip-group list",
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var out struct {
				IPGroups []platform.IPGroup `json:"ip_groups"`
			}
			if err := c.call(ctx, http.MethodGet, "/ip-groups", nil, &out); err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := make([][]string, 0, len(out.IPGroups))
				for _, g := range out.IPGroups {
					rows = append(rows, []string{g.Name, strconv.Itoa(len(g.Rules)), groupRules(g)})
				}
				table(w, []string{"GROUP", "RULES", "ADDRESSES"}, rows)
			})
		})
	put := c.verb("put NAME RULE...", "Creates an IP group or replaces its rules", "  caddy open-platform ip-group put office 203.0.113.0/24 2001:db8::7",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			g := platform.IPGroup{Name: args[0]}
			for _, text := range args[1:] {
				prefix, err := platform.ParseNetwork("RULE", text)
				if err != nil {
					return err
				}
				g.Rules = append(g.Rules, platform.IPRule{Prefix: prefix})
			}
			return c.askIPGroup(ctx, cmd, http.MethodPut, g.Name, g)
		})
	show := c.verb("show NAME", "Shows an IP group", "  caddy open-platform ip-group show office",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askIPGroup(ctx, cmd, http.MethodGet, args[0], nil)
		})
	return c.group("ip-group", "Manages named lists of addresses that apps share", list, show, put,
		c.deletion("ip-group", "/ip-groups/", "  caddy open-platform ip-group delete office"))
}

func (c *cli) askIPGroup(ctx context.Context, cmd *cobra.Command, method, name string, body any) error {
	var g platform.IPGroup
	if err := c.call(ctx, method, "/ip-groups/"+url.PathEscape(name), body, &g); err != nil {
		return err
	}
	return c.print(cmd, g, func(w io.Writer) { facts(w, "group", g.Name, "addresses", groupRules(g)) })
}

func groupRules(g platform.IPGroup) string {
	rules := make([]string, len(g.Rules))
	for i, r := range g.Rules {
		rules[i] = ruleText(r)
	}
	return strings.Join(rules, " ")
}
