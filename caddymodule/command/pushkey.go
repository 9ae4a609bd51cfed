package command

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) appPushKey() *cobra.Command {
	return c.group("push-key", "Manages the keys that sign and encrypt what is pushed to an app",
		c.pushKeyAdd(), c.pushKeyList(), c.pushKeyRevoke())
}

func showPushKey(w io.Writer, k *platform.IssuedPushKey) {
	facts(w, "push key", strconv.Itoa(k.Number), "kind", string(k.Kind), "environment", string(k.Environment), "key id", k.KeyID,
		"secret", k.Secret, "public key", k.PublicKey)
}

func (c *cli) pushKeyAdd() *cobra.Command {
	var environment, kind string
	cmd := c.verb("add REF", "Makes a second key of a kind, shown this once, so that the app can change over", `  caddy open-platform app push-key add ak_7Yq2m0VtB1cD3eF4gH5i --kind sign
  caddy open-platform app push-key add ak_7Yq2m0VtB1cD3eF4gH5i --kind encrypt --environment production --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var k platform.IssuedPushKey
			body := platform.PushKeyRequest{Environment: platform.Environment(environment), Kind: platform.PushKeyKind(kind)}
			if err := c.call(ctx, http.MethodPost, appPath(args[0], "push-keys"), body, &k); err != nil {
				return err
			}
			return c.print(cmd, k, func(w io.Writer) { showPushKey(w, &k) })
		})
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	cmd.Flags().StringVar(&kind, "kind", "", "sign, sign_ed25519 or encrypt (required)")
	return cmd
}

func (c *cli) pushKeyList() *cobra.Command {
	return c.verb("list REF", "Lists an app's push keys, without their secrets", `  caddy open-platform app push-key list ak_7Yq2m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var page struct {
				Keys []platform.PushKey `json:"keys"`
			}
			if err := c.call(ctx, http.MethodGet, appPath(args[0], "push-keys"), nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Keys))
				for i := range page.Keys {
					k := &page.Keys[i]
					state := "live"
					if !k.Live(c.now()) {
						state = "ended"
					}
					rows = append(rows, []string{strconv.Itoa(k.Number), string(k.Kind), string(k.Environment), state, date(k.CreatedAt), date(k.ExpiresAt), k.PublicKey})
				}
				table(w, []string{"NUMBER", "KIND", "ENVIRONMENT", "STATE", "CREATED", "ENDS", "PUBLIC KEY"}, rows)
			})
		})
}

func (c *cli) pushKeyRevoke() *cobra.Command {
	var after time.Duration
	cmd := c.verb("revoke REF NUMBER", "Ends a push key", `  caddy open-platform app push-key revoke ak_7Yq2m0VtB1cD3eF4gH5i 1 --after 24h`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var k platform.PushKey
			path := appPath(args[0], "push-keys", args[1]) + queryOf("after", after.String())
			if err := c.call(ctx, http.MethodDelete, path, nil, &k); err != nil {
				return err
			}
			return c.print(cmd, k, func(w io.Writer) {
				facts(w, "push key", strconv.Itoa(k.Number), "kind", string(k.Kind), "ends", date(k.ExpiresAt))
			})
		})
	cmd.Flags().DurationVar(&after, "after", 0, "how long it goes on to work")
	return cmd
}
