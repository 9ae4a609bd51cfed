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

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) appCommand() *cobra.Command {
	return c.group("app", "Manages apps",
		c.appCreate(), c.appList(), c.appShow(),
		c.appChange("suspend", "Suspends an app: its calls are refused", http.MethodPost),
		c.appChange("resume", "Lets a suspended app call again", http.MethodPost),
		c.appDelete(), c.appPlan(),
		c.group("secret", "Manages an app's secrets", c.secretAdd(), c.secretRevoke()),
		c.group("key", "Manages an app's public keys", c.keyAdd()),
		c.group("ip", "Manages an app's IP whitelist", c.ipAdd(), c.ipRemove()),
		c.appGrant(), c.appRevoke(),
		c.appOAuth(), c.appStartLink(), c.pushKeyCommand(),
		c.group("dialect", "Manages the signature dialects of an app", c.dialectAllow(), c.dialectDisallow()),
	)
}

// appPath is the path of an app on the admin API.
func appPath(ref string, more ...string) string {
	var path strings.Builder
	path.WriteString("/apps/" + url.PathEscape(ref))
	for _, m := range more {
		path.WriteString("/" + url.PathEscape(m))
	}
	return path.String()
}

func (c *cli) appCreate() *cobra.Command {
	var n platform.NewApp
	var kind, mode, environment string
	cmd := c.verb("create", "Creates an app and prints its first secret, once", `  caddy open-platform app create --name "Demo shop"
  caddy open-platform app create --name ERP --kind isv --package trade --ip 203.0.113.0/24
  caddy open-platform app create --name Test --json > app.json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if n.Name == "" {
				return usagef("--name is missing; want the app's name")
			}
			n.Kind, n.Mode, n.Environment = platform.AppKind(kind), platform.AppMode(mode), platform.Environment(environment)
			var made adminapi.CreatedApp
			if err := c.call(ctx, http.MethodPost, "/apps", n, &made); err != nil {
				return err
			}
			return c.print(cmd, made, func(w io.Writer) {
				facts(w, "app", made.ID, "app key", made.Key, "name", made.Name, "plan", made.Plan)
				showSecret(w, &made.IssuedSecret)
			})
		})
	cmd.Flags().StringVar(&n.Name, "name", "", "name of the app (required)")
	cmd.Flags().StringVar(&kind, "kind", "", "merchant (own shop, the default) or isv (serves many merchants)")
	cmd.Flags().StringVar(&mode, "mode", "", "how merchants authorize it: hosted, web (the default) or client")
	cmd.Flags().StringVar(&environment, "environment", "", "of the first secret: sandbox (the default) or production")
	cmd.Flags().StringVar(&n.Plan, "plan", "", "plan that limits it; none is the plan \"default\"")
	cmd.Flags().StringArrayVar(&n.IPs, "ip", nil, "whitelisted address, CIDR or @group (repeatable); none is any address")
	cmd.Flags().StringArrayVar(&n.Packages, "package", nil, "package to grant (repeatable); basic is always granted")
	return cmd
}

func (c *cli) appList() *cobra.Command {
	var status, kind, text, after string
	var limit int
	cmd := c.verb("list", "Lists apps", `  caddy open-platform app list
  caddy open-platform app list --status suspended
  caddy open-platform app list --text shop --limit 20 --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page adminapi.AppPage
			q := queryOf("status", status, "kind", kind, "text", text, "after", after, "limit", nonZero(int64(limit)))
			if err := c.call(ctx, http.MethodGet, "/apps"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Apps))
				for _, a := range page.Apps {
					rows = append(rows, []string{a.ID, a.Key, string(a.Kind), string(a.Status), planName(a.Plan), date(a.CreatedAt), a.Name})
				}
				table(w, []string{"ID", "APP KEY", "KIND", "STATUS", "PLAN", "CREATED", "NAME"}, rows)
				if page.Next != "" {
					fmt.Fprintf(cmd.ErrOrStderr(), "more: --after %s\n", page.Next)
				}
			})
		})
	cmd.Flags().StringVar(&status, "status", "", "only active or suspended ones")
	cmd.Flags().StringVar(&kind, "kind", "", "only merchant or isv")
	cmd.Flags().StringVar(&text, "text", "", "part of the name, an ID, or an app key")
	cmd.Flags().IntVar(&limit, "limit", 0, "largest number of apps, up to 1000 (default 100)")
	cmd.Flags().StringVar(&after, "after", "", "ID of the last app of the page before")
	return cmd
}

func (c *cli) appShow() *cobra.Command {
	return c.verb("show REF", "Shows an app: credentials, whitelist, packages, dialects", `  caddy open-platform app show ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform app show app_7Yq2m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodGet, appPath(args[0]), nil)
		})
}

// appChange makes a verb that only names the app.
func (c *cli) appChange(name, short, method string) *cobra.Command {
	return c.verb(name+" REF", short, "  caddy open-platform app "+name+" ak_7Yq2m0VtB1cD3eF4gH5i",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, method, appPath(args[0], name), nil)
		})
}

func (c *cli) appDelete() *cobra.Command {
	var yes bool
	cmd := c.verb("delete REF", "Deletes an app with its credentials and grants", `  caddy open-platform app delete ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform app delete app_7Yq2m0VtB1cD3eF4gH5i --yes`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ok, err := c.confirm(cmd, yes, "Delete the app "+args[0]+"?")
			if err != nil || !ok {
				return orDeclined(err)
			}
			return c.remove(ctx, cmd, appPath(args[0]), "app "+args[0])
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (c *cli) appPlan() *cobra.Command {
	return c.verb("plan REF PLAN", "Puts an app on a plan", "  caddy open-platform app plan ak_7Yq2m0VtB1cD3eF4gH5i gold",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askApp(ctx, cmd, http.MethodPut, appPath(args[0], "plan"), map[string]string{"plan": args[1]})
		})
}

func (c *cli) secretAdd() *cobra.Command {
	var environment, dialect string
	cmd := c.verb("add REF", "Issues a secret and prints it, once; at most two live ones", `  caddy open-platform app secret add ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform app secret add ak_7Yq2m0VtB1cD3eF4gH5i --environment production
  caddy open-platform app secret add ak_7Yq2m0VtB1cD3eF4gH5i --dialect top`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.issue(ctx, cmd, http.MethodPost, appPath(args[0], "secrets"), map[string]string{"environment": environment, "dialect": dialect})
		})
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	cmd.Flags().StringVar(&dialect, "dialect", "", "dialect that it serves (default op1)")
	return cmd
}

func (c *cli) secretRevoke() *cobra.Command {
	var after time.Duration
	cmd := c.verb("revoke REF NUMBER", "Ends a secret or a public key, at once or after an overlap", `  caddy open-platform app secret revoke ak_7Yq2m0VtB1cD3eF4gH5i 1
  caddy open-platform app secret revoke ak_7Yq2m0VtB1cD3eF4gH5i 1 --after 24h`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(args[1], 10, 31); err != nil {
				return usagef("NUMBER: %q is no number; see the credentials of \"app show\"", args[1])
			}
			return c.askApp(ctx, cmd, http.MethodDelete, appPath(args[0], "credentials", args[1])+queryOf("after", after.String()), nil)
		})
	cmd.Flags().DurationVar(&after, "after", 0, "how long it goes on to work: 24h, 30m")
	return cmd
}

func (c *cli) keyAdd() *cobra.Command {
	var file, environment string
	cmd := c.verb("add REF", "Registers a public key (Ed25519, or RSA of 2048 bits and more) for op1", `  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem
  caddy open-platform app key add ak_7Yq2m0VtB1cD3eF4gH5i --file key.pub.pem`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("--file is missing; want a PEM file that starts with -----BEGIN PUBLIC KEY-----")
			}
			pem, err := readInput("--file", file, 64<<10)
			if err != nil {
				return err
			}
			if strings.Contains(string(pem), "PRIVATE KEY") {
				return usagef("--file: %s holds a private key, which must not leave its owner; give the public one (openssl pkey -in %[1]s -pubout)", file)
			}
			var key platform.Credential
			if err := c.call(ctx, http.MethodPost, appPath(args[0], "keys"), map[string]string{"environment": environment, "public_key": string(pem)}, &key); err != nil {
				return err
			}
			return c.print(cmd, key, func(w io.Writer) {
				facts(w, "public key number", strconv.Itoa(key.Number), "environment", string(key.Environment), "dialect", key.Dialect)
			})
		})
	cmd.Flags().StringVar(&file, "file", "", "PEM file with the public key (required)")
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	return cmd
}

// issue asks for a secret and shows it.
func (c *cli) issue(ctx context.Context, cmd *cobra.Command, method, path string, body any) error {
	var secret platform.IssuedSecret
	if err := c.call(ctx, method, path, body, &secret); err != nil {
		return err
	}
	return c.print(cmd, secret, func(w io.Writer) { showSecret(w, &secret) })
}

// askApp makes a call that answers with the app, and shows it.
func (c *cli) askApp(ctx context.Context, cmd *cobra.Command, method, path string, body any) error {
	var app platform.App
	if err := c.call(ctx, method, path, body, &app); err != nil {
		return err
	}
	return c.print(cmd, app, func(w io.Writer) { showApp(w, &app, c.now()) })
}

// remove deletes what path names and says so.
func (c *cli) remove(ctx context.Context, cmd *cobra.Command, path, what string) error {
	if err := c.call(ctx, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	return c.print(cmd, map[string]string{"deleted": what}, func(w io.Writer) { fmt.Fprintln(w, "deleted "+printable(what)) })
}

// orDeclined is err, or what a person's "no" leads to.
func orDeclined(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("nothing was changed")
}
