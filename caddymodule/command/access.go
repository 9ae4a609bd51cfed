package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) ipAdd() *cobra.Command {
	var note string
	cmd := c.verb("add REF RULE", "Adds an address, a CIDR or @group to the whitelist", `  caddy open-platform app ip add ak_7Yq2m0VtB1cD3eF4gH5i 203.0.113.7
  caddy open-platform app ip add ak_7Yq2m0VtB1cD3eF4gH5i 2001:db8::/32 --note "data centre 2"
  caddy open-platform app ip add ak_7Yq2m0VtB1cD3eF4gH5i @office`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodPost, appPath(args[0], "ips"), map[string]string{"rule": args[1], "note": note})
		})
	cmd.Flags().StringVar(&note, "note", "", "what the address is")
	return cmd
}

func (c *cli) ipRemove() *cobra.Command {
	return c.verb("remove REF RULE", "Removes an address, a CIDR or @group from the whitelist", "  caddy open-platform app ip remove ak_7Yq2m0VtB1cD3eF4gH5i 203.0.113.7",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodDelete, appPath(args[0], "ips")+queryOf("rule", args[1]), nil)
		})
}

func (c *cli) appGrant() *cobra.Command {
	var from, until string
	cmd := c.verb("grant REF PACKAGE", "Grants a package to an app, for a period or without end", `  caddy open-platform app grant ak_7Yq2m0VtB1cD3eF4gH5i trade
  caddy open-platform app grant ak_7Yq2m0VtB1cD3eF4gH5i logistics --from 2027-01-01 --until 2028-01-01`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var period platform.Period
			var err error
			if period.From, err = parseDate("--from", from); err != nil {
				return err
			}
			if period.Until, err = parseDate("--until", until); err != nil {
				return err
			}
			return c.askApp(ctx, cmd, http.MethodPut, appPath(args[0], "packages", args[1]), period)
		})
	cmd.Flags().StringVar(&from, "from", "", "when it begins: a date or an RFC 3339 time")
	cmd.Flags().StringVar(&until, "until", "", "when it ends")
	return cmd
}

func (c *cli) appRevoke() *cobra.Command {
	return c.verb("revoke REF PACKAGE", "Takes a package from an app", "  caddy open-platform app revoke ak_7Yq2m0VtB1cD3eF4gH5i trade",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodDelete, appPath(args[0], "packages", args[1]), nil)
		})
}

func (c *cli) dialectAllow() *cobra.Command {
	var method, environment string
	cmd := c.verb("allow REF DIALECT", "Lets an app sign in a dialect and prints the dialect's own secret, once", `  caddy open-platform app dialect allow ak_7Yq2m0VtB1cD3eF4gH5i aop1688
  caddy open-platform app dialect allow ak_7Yq2m0VtB1cD3eF4gH5i top --method hmac-sha256 --environment production`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.issue(ctx, cmd, http.MethodPut, appPath(args[0], "dialects", args[1]), map[string]string{"method": method, "environment": environment})
		})
	cmd.Flags().StringVar(&method, "method", "", "digest algorithm to pin; one that builds on MD5 must be named")
	cmd.Flags().StringVar(&environment, "environment", "", "of the secret: sandbox (the default) or production")
	return cmd
}

func (c *cli) dialectDisallow() *cobra.Command {
	return c.verb("disallow REF DIALECT", "Forbids a dialect and ends its secrets", "  caddy open-platform app dialect disallow ak_7Yq2m0VtB1cD3eF4gH5i top",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodDelete, appPath(args[0], "dialects", args[1]), nil)
		})
}

// showSecret prints a secret that has just been issued.
func showSecret(w io.Writer, s *platform.IssuedSecret) {
	facts(w, "environment", string(s.Environment), "dialect", s.Dialect, "method", s.Method, "number", strconv.Itoa(s.Number),
		"secret", s.Secret, "expires", date(s.ExpiresAt))
	fmt.Fprintln(w, "The secret is shown this once: keep it safe now.")
}

// showApp prints an app with what hangs from it.
func showApp(w io.Writer, a *platform.App, now time.Time) {
	facts(w, "app", a.ID, "app key", a.Key, "name", a.Name, "kind", string(a.Kind), "mode", string(a.Mode), "status", string(a.Status),
		"plan", planName(a.Plan), "created", date(a.CreatedAt), "changed", date(a.UpdatedAt))
	if len(a.IPs) == 0 {
		facts(w, "ips", "any address")
	}
	section(w, "Credentials", []string{"NUMBER", "ENVIRONMENT", "DIALECT", "KIND", "CREATED", "STATE"}, a.Credentials, func(k platform.Credential) []string {
		state := "live"
		switch {
		case !k.Live(now):
			state = "ended " + date(k.ExpiresAt)
		case !k.ExpiresAt.IsZero():
			state = "ends " + date(k.ExpiresAt)
		}
		return []string{strconv.Itoa(k.Number), string(k.Environment), k.Dialect, string(k.Kind), date(k.CreatedAt), state}
	})
	section(w, "IP whitelist", []string{"RULE", "NOTE"}, a.IPs, func(r platform.IPRule) []string { return []string{ruleText(r), r.Note} })
	section(w, "Packages", []string{"PACKAGE", "FROM", "UNTIL", "STATE"}, a.Packages, func(g platform.PackageGrant) []string {
		state := map[platform.PeriodState]string{platform.Current: "current", platform.NotYet: "not yet", platform.Expired: "expired"}[g.State(now)]
		return []string{g.Package, date(g.From), date(g.Until), state}
	})
	section(w, "Dialects", []string{"DIALECT", "METHOD"}, a.Dialects, func(d platform.DialectGrant) []string { return []string{d.Dialect, d.Method} })
	showOAuth(w, a.OAuth)
}

// section prints a titled table, or nothing for an empty list.
func section[T any](w io.Writer, title string, head []string, list []T, row func(T) []string) {
	if len(list) == 0 {
		return
	}
	rows := make([][]string, len(list))
	for i, v := range list {
		rows[i] = row(v)
	}
	fmt.Fprintln(w, "\n"+title)
	table(w, head, rows)
}

// ruleText is a whitelist rule as the user writes it.
func ruleText(r platform.IPRule) string {
	switch {
	case r.Group != "":
		return "@" + strings.TrimPrefix(r.Group, "@")
	case r.Prefix.IsSingleIP():
		return r.Prefix.Addr().String()
	}
	return r.Prefix.String()
}

func planName(name string) string {
	if name == "" {
		return platform.DefaultPlan
	}
	return name
}

// queryOf makes a query of name and value pairs; empty values are left out.
func queryOf(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// nonZero prints n, or nothing for 0.
func nonZero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
