// Package command is the command line "caddy open-platform": it manages a
// running platform through its admin API, and signs calls to it.
package command

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "open-platform",
		Usage: "<command>",
		Short: "Manages the open platform: apps, merchants, APIs, topics, subscriptions, packages, plans, limits",
		CobraFunc: func(cmd *cobra.Command) {
			newCLI().attach(cmd)
		},
	})
}

// cli is one run of "caddy open-platform".
type cli struct {
	address, config, adapter string
	json                     bool

	program  string // how the user called this binary
	now      func() time.Time
	rand     io.Reader
	terminal func() bool // whether a person sits at standard input
}

func newCLI() *cli {
	return &cli{
		program:  os.Args[0],
		now:      time.Now,
		rand:     rand.Reader,
		terminal: func() bool { return term.IsTerminal(int(os.Stdin.Fd())) },
	}
}

// attach makes root the command "open-platform" with everything below it.
func (c *cli) attach(root *cobra.Command) {
	c.asGroup(root)
	root.Long = `Manages the open platform of a running server, through its admin endpoint,
and signs calls to it.

The admin endpoint is found by --address, else in the file of --config, else
in ./Caddyfile if there is one, else it is localhost:2019.

Exit codes: 0 done; 1 failed (the server said no, or a call was refused);
2 wrong usage (bad flags or input).`
	root.Example = `  caddy open-platform apply -f mall.openapi.yaml
  caddy open-platform app create --name "Demo shop" --package trade
  caddy open-platform curl https://localhost:8443/v1/products
  caddy open-platform status`
	flags := root.PersistentFlags()
	flags.StringVar(&c.address, "address", "", "address of the admin endpoint: host:port, or unix//path")
	flags.StringVarP(&c.config, "config", "c", "", "configuration file to find the admin endpoint in")
	flags.StringVarP(&c.adapter, "adapter", "a", "", "name of the config adapter for --config")
	flags.BoolVar(&c.json, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit(cmd, usagef("%v; see --help", err))
	})
	root.AddCommand(c.appCommand(), c.userCommand(), c.grantCommand(), c.tokenCommand(), c.apiCommand(), c.topicCommand(), c.subscriptionCommand(), c.packageCommand(), c.planCommand(), c.ipGroupCommand(),
		c.limitsCommand(), c.auditCommand(), c.applyCommand(), c.signCommand(), c.curlCommand(),
		c.statusCommand(), c.quickstartCommand(), c.masterKeyCommand(), c.storeCommand(),
		c.messageCommand(), c.deliveryCommand(), c.pushCommand())
}

// group makes a command that only holds others. Its examples are those of its
// first two commands.
func (c *cli) group(use, short string, children ...*cobra.Command) *cobra.Command {
	var examples []string
	for _, child := range children[:min(len(children), 2)] {
		lines := strings.Split(child.Example, "\n")
		// What makes a file to work with comes before some.
		i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "  caddy ") })
		examples = append(examples, lines[max(i, 0)])
	}
	cmd := &cobra.Command{Use: use, Short: short, Example: strings.Join(examples, "\n")}
	c.asGroup(cmd)
	cmd.AddCommand(children...)
	return cmd
}

// asGroup shows the help when no child is named; an unknown child is a usage
// error, which cobra itself would pass over.
func (c *cli) asGroup(cmd *cobra.Command) {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return exit(cmd, usagef("unknown command %q for %q; did you mean %q?", args[0], cmd.CommandPath(), near[0]))
		}
		return exit(cmd, usagef("unknown command %q for %q; see --help", args[0], cmd.CommandPath()))
	}
}

// verb makes a command that does something. Use names its arguments: "plan REF
// PLAN"; the last may be optional ("[REF]") or repeated ("RULE...").
func (c *cli) verb(use, short, example string, run func(ctx context.Context, cmd *cobra.Command, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkArgs(cmd, args); err != nil {
			return exit(cmd, err)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		return exit(cmd, run(ctx, cmd, args))
	}
	return cmd
}

// checkArgs compares the arguments with those that cmd.Use names.
func checkArgs(cmd *cobra.Command, args []string) error {
	names := strings.Fields(cmd.Use)[1:]
	for i, name := range names {
		if i >= len(args) && !strings.HasPrefix(name, "[") {
			return usagef("%s is missing; usage: %s", strings.TrimSuffix(name, "..."), cmd.UseLine())
		}
	}
	repeats := len(names) > 0 && strings.HasSuffix(names[len(names)-1], "...")
	if len(args) > len(names) && !repeats {
		return usagef("unexpected argument %q; usage: %s", args[len(names)], cmd.UseLine())
	}
	for i, arg := range args {
		switch {
		case arg == "":
			return usagef("argument %d is empty; usage: %s", i+1, cmd.UseLine())
		case isSecret(arg):
			return usagef("argument %d is a secret; keep it off the command line and give an ID or an app key", i+1)
		}
	}
	return nil
}

// isSecret tells whether the text is a secret, a push key, a token or a code of ours. A
// package may be named at_home, but not as long as a token is.
func isSecret(text string) bool {
	isToken := func(prefix string) bool { return strings.HasPrefix(text, prefix) && len(text) >= 40 }
	return strings.HasPrefix(text, "sk_") || slices.ContainsFunc([]string{"at_", "rt_", "oc_", "dc_", "whsec_", "whek_"}, isToken)
}

// usageError is a mistake of the user: exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// exit reports err on standard error, in one line, and chooses the exit code.
// Caddy takes any code but 1 from an error of its own, which only its wrapper
// can make.
func exit(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	said, fromServer := errors.AsType[*serverError](err)
	if fromServer && len(said.Lines) > 0 {
		for _, line := range said.Lines {
			fmt.Fprintln(cmd.ErrOrStderr(), printable(line))
		}
	} else if !errors.Is(err, errShown) {
		fmt.Fprintln(cmd.ErrOrStderr(), "Error: "+printable(err.Error()))
	}
	_, usage := errors.AsType[*usageError](err)
	_, field := errors.AsType[*platform.FieldError](err)
	if usage || field || fromServer && said.mistake() {
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return 2, nil })(cmd, nil)
	}
	return err
}

// errShown ends with exit code 1 without a word: the output has said it.
var errShown = errors.New("failed")

// print writes v as JSON, or lets human write it.
func (c *cli) print(cmd *cobra.Command, v any, human func(w io.Writer)) error {
	if !c.json {
		human(cmd.OutOrStdout())
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}

// confirm asks a person; where none sits at the terminal the answer is yes.
func (c *cli) confirm(cmd *cobra.Command, yes bool, question string) (bool, error) {
	if yes || !c.terminal() {
		return true, nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
