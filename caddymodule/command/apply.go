package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (c *cli) applyCommand() *cobra.Command {
	var file string
	var dryRun, yes bool
	cmd := c.verb("apply", "Applies a catalog file (OpenAPI with x-open-* fields)", `  caddy open-platform apply -f mall.openapi.yaml --dry-run
  caddy open-platform apply -f mall.openapi.yaml
  caddy open-platform apply -f mall.openapi.yaml --yes --json`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("-f is missing; want the catalog file")
			}
			data, err := readInput("-f", file, adminapi.MaxBody)
			if err != nil {
				return err
			}
			return c.apply(ctx, cmd, filepath.Base(file), data, dryRun, yes)
		})
	cmd.Long = `Applies a catalog file: adds and changes its APIs, topics and packages, and takes
the APIs and topics that the file no longer has offline. The changes are shown first; on a terminal
they are applied after a yes.`
	cmd.Flags().StringVarP(&file, "file", "f", "", "catalog file (required); its name is the source that owns the APIs")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (c *cli) apply(ctx context.Context, cmd *cobra.Command, source string, data []byte, dryRun, yes bool) error {
	var diff platform.CatalogDiff
	if err := c.call(ctx, http.MethodPost, "/catalog"+queryOf("source", source, "dry_run", "true"), data, &diff); err != nil {
		return err
	}
	if dryRun {
		return c.print(cmd, diff, func(w io.Writer) { showDiff(w, &diff) })
	}
	if !c.json {
		showDiff(cmd.OutOrStdout(), &diff)
	}
	if len(diff.Changes) > 0 {
		ok, err := c.confirm(cmd, yes, fmt.Sprintf("Apply %s?", source))
		if err != nil || !ok {
			return orDeclined(err)
		}
	}
	if err := c.call(ctx, http.MethodPost, "/catalog"+queryOf("source", source), data, &diff); err != nil {
		return err
	}
	return c.print(cmd, diff, func(w io.Writer) {
		count := map[string]int{}
		for _, ch := range diff.Changes {
			count[ch.Action]++
		}
		fmt.Fprintf(w, "applied: %d added, %d changed, %d offline\n", count["add"], count["change"], count["offline"])
	})
}

// showDiff prints a line for each change: + add, ~ change, - offline.
func showDiff(w io.Writer, d *platform.CatalogDiff) {
	signs := map[string]string{"add": "+", "change": "~", "offline": "-"}
	for _, ch := range d.Changes {
		sign := signs[ch.Action]
		if sign == "" {
			sign = ch.Action
		}
		line := sign + " " + ch.Kind + " " + ch.Name
		switch {
		case ch.Action == "offline":
			line += " (offline)"
		case len(ch.Fields) > 0:
			line += ": " + strings.Join(ch.Fields, ", ")
		}
		fmt.Fprintln(w, printable(line))
	}
	if len(d.Changes) == 0 {
		fmt.Fprintf(w, "%s: nothing changes\n", printable(d.Source))
		return
	}
	fmt.Fprintf(w, "%d unchanged\n", d.Unchanged)
}
