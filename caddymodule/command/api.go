package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) apiCommand() *cobra.Command {
	return c.group("api", "Manages the APIs of the catalog",
		c.apiList(), c.apiShow(), c.apiDeprecate(),
		c.apiStatus("offline", "Takes an API offline: calls get 410"),
		c.apiStatus("online", "Puts an API online"))
}

func (c *cli) apiList() *cobra.Command {
	var status, pkg, text string
	cmd := c.verb("list", "Lists APIs", `  caddy open-platform api list
  caddy open-platform api list --package trade --status online
  caddy open-platform api list --text order --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var list struct {
				APIs []platform.API `json:"apis"`
			}
			if err := c.call(ctx, http.MethodGet, "/apis"+queryOf("status", status, "package", pkg, "text", text), nil, &list); err != nil {
				return err
			}
			return c.print(cmd, list, func(w io.Writer) {
				rows := make([][]string, 0, len(list.APIs))
				for _, a := range list.APIs {
					rows = append(rows, []string{a.ID(), a.Method, a.Path, a.Package, string(a.Status), a.Title})
				}
				table(w, []string{"API", "METHOD", "PATH", "PACKAGE", "STATUS", "TITLE"}, rows)
			})
		})
	cmd.Flags().StringVar(&status, "status", "", "only draft, online, deprecated or offline ones")
	cmd.Flags().StringVar(&pkg, "package", "", "only of this package")
	cmd.Flags().StringVar(&text, "text", "", "part of the name, the title or the path")
	return cmd
}

func (c *cli) apiShow() *cobra.Command {
	return c.verb("show NAME[@VERSION]", "Shows an API with its sandbox example", `  caddy open-platform api show trade.order.get
  caddy open-platform api show trade.order.get@1.0 --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			api, err := c.api(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(cmd, api, func(w io.Writer) { showAPI(w, api) })
		})
}

func (c *cli) apiDeprecate() *cobra.Command {
	var sunset string
	cmd := c.verb("deprecate NAME[@VERSION]", "Marks an API as deprecated: answers carry Deprecation and Sunset", `  caddy open-platform api deprecate trade.order.get@1.0 --sunset 2027-06-30`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			end, err := parseDate("--sunset", sunset)
			if err != nil {
				return err
			}
			var body struct {
				Sunset string `json:"sunset,omitempty"`
			}
			body.Sunset = rfc3339(end)
			return c.setAPI(ctx, cmd, args[0], "deprecate", body)
		})
	cmd.Flags().StringVar(&sunset, "sunset", "", "when it goes offline: a date or an RFC 3339 time")
	return cmd
}

// apiStatus makes a verb that only names the API.
func (c *cli) apiStatus(name, short string) *cobra.Command {
	return c.verb(name+" NAME[@VERSION]", short, "  caddy open-platform api "+name+" trade.order.get@1.0",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.setAPI(ctx, cmd, args[0], name, nil)
		})
}

// setAPI changes an API's status. Without a version the only one is meant.
func (c *cli) setAPI(ctx context.Context, cmd *cobra.Command, ref, state string, body any) error {
	name, version, err := apiRef(ref)
	if err != nil {
		return err
	}
	if version == "" {
		only, err := c.api(ctx, name)
		if err != nil {
			return err
		}
		version = only.Version
	}
	var api platform.API
	if err := c.call(ctx, http.MethodPost, "/apis/"+url.PathEscape(name)+"/"+url.PathEscape(version)+"/"+state, body, &api); err != nil {
		return err
	}
	return c.print(cmd, api, func(w io.Writer) {
		facts(w, "api", api.ID(), "status", string(api.Status), "deprecated", date(api.DeprecatedAt), "sunset", date(api.Sunset))
	})
}

// apiRef takes "name" or "name@version" apart.
func apiRef(ref string) (name, version string, err error) {
	name, version, _ = strings.Cut(ref, "@")
	if name == "" {
		return "", "", usagef("%q names no API; want NAME or NAME@VERSION, as trade.order.get@1.0", ref)
	}
	return name, version, nil
}

// api loads one API by "name" or "name@version".
func (c *cli) api(ctx context.Context, ref string) (*platform.API, error) {
	name, version, err := apiRef(ref)
	if err != nil {
		return nil, err
	}
	path := "/apis/" + url.PathEscape(name)
	if version != "" {
		path += "/" + url.PathEscape(version)
	}
	var api platform.API
	if err := c.call(ctx, http.MethodGet, path, nil, &api); err != nil {
		return nil, err
	}
	return &api, nil
}

func showAPI(w io.Writer, a *platform.API) {
	token := ""
	if a.UserToken {
		token = "needs a merchant's authorization"
	}
	facts(w, "api", a.ID(), "title", a.Title, "call", strings.TrimSpace(a.Method+" "+a.Path), "provider", string(a.Provider), "package", a.Package,
		"status", string(a.Status), "deprecated", date(a.DeprecatedAt), "sunset", date(a.Sunset), "token", token,
		"upstream", a.Upstream, "limits", formatLimits(a.Limits), "source", a.Source)
	if len(a.Example.Body) > 0 {
		fmt.Fprintf(w, "\nExample: %d %s\n%s\n", a.Example.Status, printable(a.Example.ContentType), prettyBody(a.Example.Body))
	}
}

// prettyBody indents JSON and keeps anything else as text.
func prettyBody(body []byte) string {
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		return indented.String()
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
