package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// maxSecretInput bounds what is read as a password or a token, in bytes.
const maxSecretInput = 16 << 10

func (c *cli) userCommand() *cobra.Command {
	return c.group("user", "Manages merchants that authorize apps",
		c.userCreate(), c.userList(), c.userShow(),
		c.userChange("disable", "Keeps a merchant from logging in; its grants and tokens are refused"),
		c.userChange("enable", "Lets a disabled merchant log in again; its grants hold again"),
		c.userPassword(),
	)
}

// userPath is the path of a user on the admin API.
func userPath(ref string) string { return "/users/" + url.PathEscape(ref) }

func (c *cli) userCreate() *cobra.Command {
	var name, file string
	cmd := c.verb("create LOGIN", "Creates a merchant that logs in here; the password comes from standard input", `  caddy open-platform user create shop@example.com --name "Demo shop"
  caddy open-platform user create shop@example.com --name "Demo shop" --password-file password.txt
  openssl rand -base64 18 | tee password.txt | caddy open-platform user create shop@example.com --name "Demo shop"`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if name == "" {
				return usagef("--name is missing; want the shop's name")
			}
			password, err := c.readSecret(cmd, "--password-file", file, "password")
			if err != nil {
				return err
			}
			return c.askUser(ctx, cmd, http.MethodPost, "/users", adminapi.NewUser{Login: args[0], Name: name, Password: password})
		})
	cmd.Flags().StringVar(&name, "name", "", "the shop's name, as pages show it (required)")
	cmd.Flags().StringVar(&file, "password-file", "", "file with the password; without it, standard input")
	return cmd
}

func (c *cli) userPassword() *cobra.Command {
	var file string
	cmd := c.verb("password REF", "Gives a merchant a new password, from standard input", `  caddy open-platform user password shop@example.com
  caddy open-platform user password usr_7Yq2m0VtB1cD3eF4gH5i --password-file password.txt`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			password, err := c.readSecret(cmd, "--password-file", file, "password")
			if err != nil {
				return err
			}
			return c.askUser(ctx, cmd, http.MethodPut, userPath(args[0])+"/password", map[string]string{"password": password})
		})
	cmd.Flags().StringVar(&file, "password-file", "", "file with the password; without it, standard input")
	return cmd
}

func (c *cli) userList() *cobra.Command {
	var status, text, after string
	var limit int
	cmd := c.verb("list", "Lists merchants", `  caddy open-platform user list
  caddy open-platform user list --status disabled
  caddy open-platform user list --text shop --limit 20 --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page adminapi.UserPage
			q := queryOf("status", status, "text", text, "after", after, "limit", nonZero(int64(limit)))
			if err := c.call(ctx, http.MethodGet, "/users"+q, nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Users))
				for _, u := range page.Users {
					rows = append(rows, []string{u.ID, string(u.Status), date(u.CreatedAt), loginOf(&u), u.Name})
				}
				table(w, []string{"ID", "STATUS", "CREATED", "LOGIN", "NAME"}, rows)
				more(cmd, page.Next)
			})
		})
	cmd.Flags().StringVar(&status, "status", "", "only active or disabled ones")
	cmd.Flags().StringVar(&text, "text", "", "part of the name or the login, or an ID")
	cmd.Flags().IntVar(&limit, "limit", 0, "largest number of merchants, up to 1000 (default 100)")
	cmd.Flags().StringVar(&after, "after", "", "ID of the last merchant of the page before")
	return cmd
}

func (c *cli) userShow() *cobra.Command {
	return c.verb("show REF", "Shows a merchant", `  caddy open-platform user show shop@example.com
  caddy open-platform user show usr_7Yq2m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askUser(ctx, cmd, http.MethodGet, userPath(args[0]), nil)
		})
}

// userChange makes a verb that only names the merchant.
func (c *cli) userChange(name, short string) *cobra.Command {
	return c.verb(name+" REF", short, "  caddy open-platform user "+name+" shop@example.com",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askUser(ctx, cmd, http.MethodPost, userPath(args[0])+"/"+name, nil)
		})
}

// askUser makes a call that answers with the user, and shows it.
func (c *cli) askUser(ctx context.Context, cmd *cobra.Command, method, path string, body any) error {
	var u platform.User
	if err := c.call(ctx, method, path, body, &u); err != nil {
		return err
	}
	return c.print(cmd, u, func(w io.Writer) {
		facts(w, "user", u.ID, "login", u.Login, "name", u.Name, "status", string(u.Status), "issuer", u.Issuer, "subject", u.Subject,
			"created", date(u.CreatedAt), "changed", date(u.UpdatedAt))
	})
}

// loginOf is how a list names who logs in: by its login, or by whom an outside
// passport says that it is.
func loginOf(u *platform.User) string {
	if u.Login != "" {
		return u.Login
	}
	return u.Subject + " at " + u.Issuer
}

// more tells how to get the next page.
func more(cmd *cobra.Command, next string) {
	if next != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "more: --after %s\n", next)
	}
}

// readSecret reads what must not stand on a command line: from the file, or
// from standard input, where a person who types it does not see it. The line
// break at its end does not belong to it.
func (c *cli) readSecret(cmd *cobra.Command, flag, file, what string) (string, error) {
	var data []byte
	var err error
	switch {
	case file != "":
		data, err = readInput(flag, file, maxSecretInput)
	case c.terminal():
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: ", what)
		data, err = term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
	default:
		data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxSecretInput+1))
	}
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if secret == "" || len(data) > maxSecretInput {
		return "", usagef("no %s came: want it on standard input, or in the file of %s", what, flag)
	}
	return secret, nil
}
