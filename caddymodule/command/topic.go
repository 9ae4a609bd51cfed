package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) topicCommand() *cobra.Command {
	return c.group("topic", "Shows which messages apps can get", c.topicList(), c.topicShow(),
		c.topicVerb("online", "Accepts messages of a topic"), c.topicVerb("deprecate", "Tells that a topic will end"),
		c.topicVerb("offline", "Refuses messages of a topic"))
}

func (c *cli) topicList() *cobra.Command {
	var status, pkg, text string
	cmd := c.verb("list", "Lists topics", `  caddy open-platform topic list
  caddy open-platform topic list --package trade --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var page struct {
				Topics []platform.Topic `json:"topics"`
			}
			if err := c.call(ctx, http.MethodGet, "/topics"+queryOf("status", status, "package", pkg, "text", text), nil, &page); err != nil {
				return err
			}
			return c.print(cmd, page, func(w io.Writer) {
				rows := make([][]string, 0, len(page.Topics))
				for i := range page.Topics {
					t := &page.Topics[i]
					rows = append(rows, []string{t.Name, string(t.Status), t.Package, concerns(t), t.Title})
				}
				table(w, []string{"NAME", "STATUS", "PACKAGE", "ABOUT", "TITLE"}, rows)
			})
		})
	cmd.Flags().StringVar(&status, "status", "", "only those that are draft, online, deprecated or offline")
	cmd.Flags().StringVar(&pkg, "package", "", "only those of the package")
	cmd.Flags().StringVar(&text, "text", "", "only those with this in name, title or description")
	return cmd
}

// concerns tells whom messages of the topic are about.
func concerns(t *platform.Topic) string {
	if t.UserToken {
		return "a merchant"
	}
	return "everybody"
}

func (c *cli) topicShow() *cobra.Command {
	return c.verb("show NAME", "Shows a topic with its schema and an example", `  caddy open-platform topic show trade.order.created
  caddy open-platform topic show trade.order.created --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var t platform.Topic
			if err := c.call(ctx, http.MethodGet, "/topics/"+url.PathEscape(args[0]), nil, &t); err != nil {
				return err
			}
			return c.print(cmd, t, func(w io.Writer) {
				showTopic(w, &t)
				fmt.Fprintf(w, "\nexample:\n%s\n\nschema:\n%s\n", t.Example, t.Schema)
			})
		})
}

func showTopic(w io.Writer, t *platform.Topic) {
	facts(w, "topic", t.Name, "status", string(t.Status), "package", t.Package, "about", concerns(t), "catalog", t.Source, "title", t.Title,
		"description", t.Description)
}

func (c *cli) topicVerb(name, short string) *cobra.Command {
	return c.verb(name+" NAME", short, `  caddy open-platform topic `+name+` trade.order.created`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			var t platform.Topic
			if err := c.call(ctx, http.MethodPost, "/topics/"+url.PathEscape(args[0])+"/"+name, nil, &t); err != nil {
				return err
			}
			return c.print(cmd, t, func(w io.Writer) { showTopic(w, &t) })
		})
}
