package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pollInterval is how often --wait looks for the server.
const pollInterval = 200 * time.Millisecond

func (c *cli) quickstartCommand() *cobra.Command {
	var credentials, target string
	var wait time.Duration
	cmd := c.verb("quickstart", "Prints three commands to try first, ready to paste", `  caddy open-platform quickstart
  caddy open-platform quickstart --wait 30s
  caddy open-platform quickstart --credentials app.json --url https://sandbox.localhost:8443/v1/products`,
		func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			u, err := parseURL(target)
			if err != nil {
				return err
			}
			if err := awaitServer(ctx, u, credentials, wait); err != nil {
				return err
			}
			file, err := readCredentials(credentials)
			if err != nil {
				return err
			}
			if file.Secret == "" {
				return usagef("--credentials: %s has no secret", credentials)
			}
			steps := c.quickstart(u, credentials, file)
			return c.print(cmd, map[string]any{"steps": steps}, func(w io.Writer) {
				for i, s := range steps {
					fmt.Fprintf(w, "# %d. %s\n%s\n\n", i+1, s.Title, s.Command)
				}
			})
		})
	cmd.Flags().StringVar(&credentials, "credentials", sandboxAppFile, "JSON file with app_key and secret of a sandbox app")
	cmd.Flags().StringVar(&target, "url", "https://localhost:8443/v1/products", "what to call")
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait this long for the server to answer")
	return cmd
}

// step is one command of the quickstart.
type step struct {
	Title   string `json:"title"`
	Command string `json:"command"`
}

// quickstart makes the three commands: our own client, a signature made by
// hand, and a call without one.
func (c *cli) quickstart(u *url.URL, credentials string, file *credentialsFile) []step {
	own := quote(c.program) + " open-platform curl"
	if credentials != sandboxAppFile {
		own += " --credentials " + quote(credentials)
	}
	curl := "curl"
	if ca := localCA(u.Hostname()); ca != "" && u.Scheme == "https" {
		curl += " --cacert " + quote(ca)
	}
	byHand := []string{
		"AK=" + quote(file.AppKey) + " SK=" + quote(file.Secret) + " TS=$(date +%s) NONCE=$(openssl rand -hex 16)",
		`PARAMS="(\"@method\" \"@authority\" \"@path\" \"@query\");created=$TS;nonce=\"$NONCE\";keyid=\"$AK\";tag=\"op1\""`,
		fmt.Sprintf(`BASE=$(printf '"@method": GET\n"@authority": %%s\n"@path": %%s\n"@query": ?%%s\n"@signature-params": %%s' %s %s %s "$PARAMS")`,
			quote(authority(u)), quote(u.EscapedPath()), quote(u.RawQuery)),
		`SIG=$(printf %s "$BASE" | openssl dgst -sha256 -hmac "$SK" -binary | openssl base64 -A)`,
		curl + ` -H "Signature-Input: op=$PARAMS" -H "Signature: op=:$SIG:" ` + quote(u.String()),
	}
	return []step{
		{"A signed call by the command line, with everything shown:", own + " " + quote(u.String())},
		{"The same, signed by hand with openssl:", strings.Join(byHand, "\n")},
		{"Without a signature: refused with 401.", curl + " -i " + quote(u.String())},
	}
}

// authority is the @authority of op1 (RFC 9421 section 2.2.3): lower case, the
// scheme's default port dropped.
func authority(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if _, port, err := net.SplitHostPort(host); err == nil && (u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80") {
		return strings.TrimSuffix(host, ":"+port)
	}
	return host
}

// awaitServer waits until the server answers and its credentials are there. A
// wait of 0 looks at nothing.
func awaitServer(ctx context.Context, u *url.URL, credentials string, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := probe(ctx, u, credentials)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v in vain: %w", wait, err)
		case <-tick.C:
		}
	}
}

// probe asks once; any answer will do.
func probe(ctx context.Context, u *url.URL, credentials string) error {
	if _, err := readCredentials(credentials); err != nil {
		return errors.New(err.Error()) // not yet there: no mistake of the user's
	}
	client, err := callClient(u, "", false, 5*time.Second)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return usagef("--url: %v", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return callError(u.Host, err)
	}
	return resp.Body.Close()
}
