package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// barWidth is the length of a progress bar, in characters.
const barWidth = 30

// progress draws how far long work has come, where a person watches.
func (c *cli) progress(cmd *cobra.Command, done, total int) {
	if !c.terminal() || total == 0 {
		return
	}
	filled := barWidth * min(done, total) / total
	fmt.Fprintf(cmd.ErrOrStderr(), "\r[%s%s] %d of %d", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done, total)
}

func (c *cli) endProgress(cmd *cobra.Command) {
	if c.terminal() {
		fmt.Fprintln(cmd.ErrOrStderr())
	}
}
