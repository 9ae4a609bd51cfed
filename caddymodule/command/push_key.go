package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) pushKeyCommand() *cobra.Command {
	return c.group("push-key", "Manages the keys that sign and encrypt what is pushed to an app", c.pushKeyAdd(), c.pushKeyList(), c.pushKeyRevoke())
}

func (c *cli) pushKeyAdd() *cobra.Command {
	var environment, kind string
	cmd := c.verb("add REF", "Makes a push key and prints it, once; at most two live ones of a kind", `  caddy open-platform app push-key add ak_7Yq2m0VtB1cD3eF4gH5i --kind sign
  caddy open-platform app push-key add ak_7Yq2m0VtB1cD3eF4gH5i --kind encrypt --environment production
  caddy open-platform app push-key add ak_7Yq2m0VtB1cD3eF4gH5i --kind sign_ed25519 --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if kind == "" {
				return usagef("--kind is missing; want sign, sign_ed25519 or encrypt")
			}
			var key platform.IssuedPushKey
			body := platform.PushKeyRequest{Environment: platform.Environment(environment), Kind: platform.PushKeyKind(kind)}
			if err := c.call(ctx, http.MethodPost, appPath(args[0], "push-keys"), body, &key); err != nil {
				return err
			}
			return c.print(cmd, key, func(w io.Writer) { showIssuedPushKey(w, &key) })
		})
	cmd.Flags().StringVar(&kind, "kind", "", "sign, sign_ed25519 or encrypt (required)")
	cmd.Flags().StringVar(&environment, "environment", "", "sandbox (the default) or production")
	return cmd
}

func (c *cli) pushKeyList() *cobra.Command {
	return c.verb("list REF", "Lists an app's push keys, without their secrets", `  caddy open-platform app push-key list ak_7Yq2m0VtB1cD3eF4gH5i
  caddy open-platform app push-key list ak_7Yq2m0VtB1cD3eF4gH5i --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var list adminapi.PushKeyList
			if err := c.call(ctx, http.MethodGet, appPath(args[0], "push-keys"), nil, &list); err != nil {
				return err
			}
			return c.print(cmd, list, func(w io.Writer) {
				rows := make([][]string, 0, len(list.PushKeys))
				for _, k := range list.PushKeys {
					rows = append(rows, []string{strconv.Itoa(k.Number), string(k.Environment), string(k.Kind), date(k.CreatedAt), c.pushKeyState(&k), k.PublicKey})
				}
				table(w, []string{"NUMBER", "ENVIRONMENT", "KIND", "CREATED", "STATE", "PUBLIC KEY"}, rows)
			})
		})
}

func (c *cli) pushKeyRevoke() *cobra.Command {
	var after time.Duration
	cmd := c.verb("revoke REF NUMBER", "Ends a push key, at once or after an overlap", `  caddy open-platform app push-key revoke ak_7Yq2m0VtB1cD3eF4gH5i 1
  caddy open-platform app push-key revoke ak_7Yq2m0VtB1cD3eF4gH5i 1 --after 24h`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(args[1], 10, 31); err != nil {
				return usagef("NUMBER: %q is no number; see \"app push-key list\"", args[1])
			}
			var key platform.PushKey
			if err := c.call(ctx, http.MethodDelete, appPath(args[0], "push-keys", args[1])+queryOf("after", after.String()), nil, &key); err != nil {
				return err
			}
			return c.print(cmd, key, func(w io.Writer) {
				facts(w, "push key number", strconv.Itoa(key.Number), "environment", string(key.Environment), "kind", string(key.Kind), "state", c.pushKeyState(&key))
			})
		})
	cmd.Flags().DurationVar(&after, "after", 0, "how long it goes on to work: 24h, 30m")
	return cmd
}

func (c *cli) pushKeyState(k *platform.PushKey) string {
	switch {
	case !k.Live(c.now()):
		return "ended " + date(k.ExpiresAt)
	case !k.ExpiresAt.IsZero():
		return "until " + date(k.ExpiresAt)
	}
	return "live"
}

// showIssuedPushKey prints a push key that has just been made.
func showIssuedPushKey(w io.Writer, k *platform.IssuedPushKey) {
	facts(w, "push key number", strconv.Itoa(k.Number), "environment", string(k.Environment), "kind", string(k.Kind),
		"key id", k.KeyID, "secret", k.Secret, "public key", k.PublicKey)
	if k.Secret != "" {
		fmt.Fprintln(w, "The secret is shown this once: keep it safe now.")
	}
}
