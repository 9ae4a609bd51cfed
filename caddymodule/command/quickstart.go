package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
)

// pollInterval is how often --wait looks for the server.
const pollInterval = 200 * time.Millisecond

func (c *cli) quickstartCommand() *cobra.Command {
	var credentials, target string
	var wait time.Duration
	cmd := c.verb("quickstart", "Prints commands to try first, ready to paste", `  caddy open-platform quickstart
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
			if _, err := os.Stat(sandboxMerchantFile); err == nil && file.RedirectURI != "" {
				steps = append(steps, c.merchantSteps(u, credentials, file, oauth2.GenerateVerifier())...)
			}
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
	own, curl := c.ownCurl(credentials), plainCurl(u)
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

// ownCurl is our own client with the credentials.
func (c *cli) ownCurl(credentials string) string {
	own := quote(c.program) + " open-platform curl"
	if credentials != sandboxAppFile {
		own += " --credentials " + quote(credentials)
	}
	return own
}

// plainCurl is curl, such that it trusts the server of u.
func plainCurl(u *url.URL) string {
	curl := "curl"
	if ca := localCA(u.Hostname()); ca != "" && u.Scheme == "https" {
		curl += " --cacert " + quote(ca)
	}
	return curl
}

// merchantCall is a call of the demo catalog that needs a merchant's authorization.
const merchantCall = "/v1/orders/2026011610001234/idcard-picture?side=front"

// merchantSteps are the two commands with which a merchant authorizes the app, and
// the app calls for the merchant: a code for a token, with PKCE (RFC 7636).
func (c *cli) merchantSteps(u *url.URL, credentials string, file *credentialsFile, verifier string) []step {
	base := u.Scheme + "://" + u.Host
	authorize := base + "/oauth/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {file.AppKey}, "redirect_uri": {file.RedirectURI}, "scope": {"user"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
	exchange := []string{
		plainCurl(u) + " -sS " + quote(base+"/oauth/token") + " -u " + quote(file.AppKey+":"+file.Secret),
		"-d grant_type=authorization_code", `--data-urlencode "code=$CODE"`, "-d " + quote("code_verifier="+verifier),
		"--data-urlencode " + quote("redirect_uri="+file.RedirectURI),
	}
	return []step{
		{
			"A merchant's authorization: open this address in a browser, log in as is shown, agree, and paste the line CODE=… that you get within two minutes:",
			"cat " + quote(sandboxMerchantFile) + "; echo " + quote(authorize),
		},
		{
			"Then get a token for the code, and call for the merchant:",
			"TOKEN=$(" + strings.Join(exchange, " \\\n  ") + ` | sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p')` + "\n" +
				c.ownCurl(credentials) + ` --token "$TOKEN" ` + quote(base+merchantCall),
		},
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
