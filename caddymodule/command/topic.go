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
	return c.group("topic", "Shows what messages apps can subscribe to",
		c.topicList(), c.topicShow(),
		c.topicStatus("deprecate", "Marks a topic as deprecated: its messages go on"),
		c.topicStatus("offline", "Takes a topic offline: its messages are refused"),
		c.topicStatus("online", "Puts a topic online"))
}

func (c *cli) topicList() *cobra.Command {
	var status, pkg, text string
	cmd := c.verb("list", "Lists topics", `  caddy open-platform topic list
  caddy open-platform topic list --package trade --status online
  caddy open-platform topic list --text order --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			var list struct {
				Topics []platform.Topic `json:"topics"`
			}
			if err := c.call(ctx, http.MethodGet, "/topics"+queryOf("status", status, "package", pkg, "text", text), nil, &list); err != nil {
				return err
			}
			return c.print(cmd, list, func(w io.Writer) {
				rows := make([][]string, 0, len(list.Topics))
				for _, t := range list.Topics {
					rows = append(rows, []string{t.Name, t.Package, string(t.Status), reaches(&t), t.Title})
				}
				table(w, []string{"TOPIC", "PACKAGE", "STATUS", "REACHES", "TITLE"}, rows)
			})
		})
	cmd.Flags().StringVar(&status, "status", "", "only draft, online, deprecated or offline ones")
	cmd.Flags().StringVar(&pkg, "package", "", "only of this package")
	cmd.Flags().StringVar(&text, "text", "", "part of the name, the title or the description")
	return cmd
}

// reaches says in a word who gets messages of the topic.
func reaches(t *platform.Topic) string {
	if t.UserToken {
		return "authorized"
	}
	return "all"
}

func (c *cli) topicShow() *cobra.Command {
	return c.verb("show NAME", "Shows a topic with its schema and an example", `  caddy open-platform topic show trade.order.created
  caddy open-platform topic show trade.order.created --json`,
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askTopic(ctx, cmd, http.MethodGet, args[0], "")
		})
}

// topicStatus makes a verb that only names the topic.
func (c *cli) topicStatus(name, short string) *cobra.Command {
	return c.verb(name+" NAME", short, "  caddy open-platform topic "+name+" trade.order.created",
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			return c.askTopic(ctx, cmd, http.MethodPost, args[0], "/"+name)
		})
}

// askTopic makes a call that answers with the topic, and shows it.
func (c *cli) askTopic(ctx context.Context, cmd *cobra.Command, method, name, action string) error {
	var t platform.Topic
	if err := c.call(ctx, method, "/topics/"+url.PathEscape(name)+action, nil, &t); err != nil {
		return err
	}
	return c.print(cmd, t, func(w io.Writer) {
		who := "apps that hold the package, and that the merchant has authorized"
		if !t.UserToken {
			who = "all apps that hold the package"
		}
		facts(w, "topic", t.Name, "title", t.Title, "description", t.Description, "package", t.Package, "status", string(t.Status), "reaches", who, "source", t.Source)
		if method != http.MethodGet {
			return
		}
		for _, part := range []struct {
			title string
			json  []byte
		}{{"Schema of data", t.Schema}, {"Example of data", t.Example}} {
			if len(part.json) > 0 {
				fmt.Fprintf(w, "\n%s:\n%s\n", part.title, prettyBody(part.json))
			}
		}
	})
}
