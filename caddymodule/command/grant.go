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

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) grantCommand() *cobra.Command {
	return c.group("grant", "Manages what merchants have authorized", c.grantList(), c.grantRevoke())
}

func (c *cli) grantList() *cobra.Command {
	var user, app, after string
	var all bool
	var limit int
	cmd := c.verb("list", "Lists grants that hold", `  caddy open-platform grant list
  caddy open-platform grant list --user shop@example.com
  caddy open-platform grant list --app ak_7Yq2m0VtB1cD3eF4gH5i --all --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			live := "true"
			if all {
				live = ""
			}
			var page adminapi.GrantPage
			q := queryOf("user", user, "app", app, "live", live, "after", after, "limit", nonZero(int64(limit)))
			if err := c.call(ctx, http.MethodGet, "/grants"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Grants))
				for _, g := range page.Grants {
					rows = append(rows, []string{g.ID, g.User, g.App, string(g.Environment), date(g.CreatedAt), c.grantState(&g), strings.Join(g.Scopes, " ")})
				}
				table(w, []string{"ID", "USER", "APP", "ENVIRONMENT", "CREATED", "STATE", "SCOPES"}, rows)
				more(cmd, page.Next)
			})
		})
	cmd.Flags().StringVar(&user, "user", "", "only those of the merchant with this ID or login")
	cmd.Flags().StringVar(&app, "app", "", "only those for the app with this ID or app key")
	cmd.Flags().BoolVar(&all, "all", false, "also those that were revoked or have ended, as far as they are kept")
	cmd.Flags().IntVar(&limit, "limit", 0, "largest number of grants, up to 1000 (default 100)")
	cmd.Flags().StringVar(&after, "after", "", "ID of the last grant of the page before")
	return cmd
}

func (c *cli) grantState(g *platform.Grant) string {
	switch {
	case !g.RevokedAt.IsZero():
		return "revoked " + date(g.RevokedAt)
	case !g.Live(c.now()):
		return "ended " + date(g.ExpiresAt)
	}
	return "until " + date(g.ExpiresAt)
}

func (c *cli) grantRevoke() *cobra.Command {
	var yes bool
	cmd := c.verb("revoke ID", "Ends a merchant's grant: all of its tokens are void at once", `  caddy open-platform grant revoke gr_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform grant revoke gr_7Yq2m0VtB1cD3eF4gH5i --yes`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ok, err := c.confirm(cmd, yes, "Revoke the grant "+args[0]+"? The merchant must authorize the app again.")
			if err != nil || !ok {
				return orDeclined(err)
			}
			var g platform.Grant
			if err := c.call(ctx, http.MethodDelete, "/grants/"+url.PathEscape(args[0]), nil, &g); err != nil {
				return err
			}
			return c.print(cmd, g, func(w io.Writer) {
				facts(w, "grant", g.ID, "user", g.User, "app", g.App, "environment", string(g.Environment), "scopes", strings.Join(g.Scopes, " "),
					"created", date(g.CreatedAt), "revoked", date(g.RevokedAt))
			})
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (c *cli) tokenCommand() *cobra.Command {
	return c.group("token", "Looks into access and refresh tokens, and ends them",
		c.tokenVerb("inspect", "Shows whose a token is, what for and until when", ""),
		c.tokenVerb("revoke", "Ends an access token; a refresh token with all that came with it", "revoked"))
}

// tokenVerb makes a verb on a token, which it reads from standard input or a
// file: on a command line everybody would see it.
func (c *cli) tokenVerb(name, short, done string) *cobra.Command {
	var file string
	cmd := c.verb(name, short+"; the token comes from standard input", `  caddy open-platform token `+name+` --token-file token.txt
  caddy open-platform token `+name+` < token.txt`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			token, err := c.readSecret(cmd, "--token-file", file, "token")
			if err != nil {
				return err
			}
			var t platform.TokenInfo
			if err := c.call(ctx, http.MethodPost, "/tokens/"+name, map[string]string{"token": token}, &t); err != nil {
				return err
			}
			return c.print(cmd, t, func(w io.Writer) {
				kind := "access token"
				if t.Refresh {
					kind = "refresh token"
				}
				state := "until " + date(t.ExpiresAt)
				switch {
				case done != "":
					state = done
				case !c.now().Before(t.ExpiresAt):
					state = "expired " + date(t.ExpiresAt)
				case !t.ReplacedAt.IsZero():
					state = "replaced " + date(t.ReplacedAt)
				}
				facts(w, "kind", kind, "state", state, "app", t.App, "app key", t.AppKey, "user", t.User, "grant", t.Grant,
					"environment", string(t.Environment), "scopes", strings.Join(t.Scopes, " "), "issued", date(t.IssuedAt), "expires", date(t.ExpiresAt))
			})
		})
	cmd.Flags().StringVar(&file, "token-file", "", "file with the token; without it, standard input")
	return cmd
}

func (c *cli) appOAuth() *cobra.Command {
	var o platform.OAuthSettings
	var tokens, refresh string
	cmd := c.verb("oauth REF", "Sets how merchants authorize an app, all of it anew", `  caddy open-platform app oauth ak_7Yq2m0VtB1cD3eF4gH5i --redirect-uri https://erp.example.com/callback
  caddy open-platform app oauth ak_7Yq2m0VtB1cD3eF4gH5i --redirect-uri https://erp.example.com/callback --tokens jwt --refresh rotate
  caddy open-platform app oauth ak_7Yq2m0VtB1cD3eF4gH5i --redirect-uri https://erp.example.com/callback --initiate-login-uri https://erp.example.com/start
  caddy open-platform app oauth ak_7Yq2m0VtB1cD3eF4gH5i --redirect-uri http://127.0.0.1/callback --redirect-uri com.example.erp:/callback`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			o.Tokens, o.Refresh = platform.TokenFormat(tokens), platform.RefreshPolicy(refresh)
			return c.askApp(ctx, cmd, http.MethodPut, appPath(args[0], "oauth"), o)
		})
	cmd.Flags().StringArrayVar(&o.RedirectURIs, "redirect-uri", nil, "where the merchant comes back to, in full (repeatable)")
	cmd.Flags().StringVar(&o.InitiateLoginURI, "initiate-login-uri", "", "where a merchant is sent who starts the app from the app market (mode hosted)")
	cmd.Flags().StringVar(&tokens, "tokens", "", "format of access tokens: opaque (the default) or jwt")
	cmd.Flags().StringVar(&refresh, "refresh", "", "when a refresh token is used: keep it (the default) or rotate; mode client always rotates")
	cmd.Flags().BoolVar(&o.WithoutPKCE, "without-pkce", false, "accept authorization requests without PKCE, for clients too old for it")
	return cmd
}

func (c *cli) appStartLink() *cobra.Command {
	var l adminapi.NewStartLink
	var environment string
	var valid time.Duration
	cmd := c.verb("start-link REF", "Makes a link by which the app market starts an app of the mode hosted", `  caddy open-platform app start-link ak_7Yq2m0VtB1cD3eF4gH5i --issuer https://open.example.com
  caddy open-platform app start-link ak_7Yq2m0VtB1cD3eF4gH5i --environment sandbox --valid 720h`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			l.Environment, l.Valid = platform.Environment(environment), valid.String()
			var made adminapi.StartLink
			if err := c.call(ctx, http.MethodPost, appPath(args[0], "start-link"), l, &made); err != nil {
				return err
			}
			return c.print(cmd, made, func(w io.Writer) {
				facts(w, "app key", made.AppKey, "environment", string(made.Environment), "until", date(made.ExpiresAt), "link", made.URL)
			})
		})
	cmd.Flags().StringVar(&environment, "environment", "", "of the authorization server: production (the default) or sandbox")
	cmd.Flags().StringVar(&l.Issuer, "issuer", "", "of the authorization server: https:// and its host; not needed where the configuration names one")
	cmd.Flags().DurationVar(&valid, "valid", 24*time.Hour, "how long the link is good for, up to 2160h")
	return cmd
}

// showOAuth prints how merchants authorize an app, where anything is set.
func showOAuth(w io.Writer, o platform.OAuthSettings) {
	if o.IsZero() {
		return
	}
	pkce := ""
	if o.WithoutPKCE {
		pkce = "not required"
	}
	fmt.Fprintln(w, "\nOAuth")
	facts(w, "tokens", string(o.Tokens), "refresh tokens", string(o.Refresh), "PKCE", pkce)
	for _, uri := range o.RedirectURIs {
		facts(w, "redirect URI", uri)
	}
	facts(w, "initiate login URI", o.InitiateLoginURI)
}
