package command

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/signing"
)

const (
	// sandboxAppFile is what a server with the sandbox app writes.
	sandboxAppFile = "./data/sandbox-app.json"
	// sandboxMerchantFile is what one with the sandbox merchant writes.
	sandboxMerchantFile = "./data/sandbox-merchant.json"
	// secretVariable is the environment variable that may hold the secret.
	secretVariable = "OPEN_PLATFORM_SECRET"
)

// signFlags are the flags that "sign" and "curl" share.
type signFlags struct {
	method, data                             string
	headers                                  []string
	appKey, secret, secretFile, keyFile      string
	credentials, dialect, digest, token      string
	credentialsSet, secretSet, secretFileSet bool
}

func (f *signFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.method, "method", "X", "", "HTTP method (default GET, with -d POST)")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, `header "Name: value" (repeatable)`)
	flags.StringVarP(&f.data, "data", "d", "", "body, or @file; JSON and forms get their Content-Type")
	flags.StringVar(&f.appKey, "app-key", "", "app key, or appKey#n for the credential with number n")
	flags.StringVar(&f.secretFile, "secret-file", "", "file with the secret; or set "+secretVariable)
	flags.StringVar(&f.secret, "secret", "", "the secret itself: UNSAFE, it stays in the shell's history and the process list")
	flags.StringVar(&f.keyFile, "key-file", "", "PEM file with a private key (PKCS #8), instead of a secret")
	flags.StringVar(&f.credentials, "credentials", sandboxAppFile, "JSON file with app_key and secret, as \"app create --json\" prints it")
	flags.StringVar(&f.dialect, "dialect", "op1", "signature scheme: "+strings.Join(signing.Names(), ", "))
	flags.StringVar(&f.digest, "method-digest", "", "digest algorithm of the dialect: md5, hmac-sha256, …")
	flags.StringVar(&f.token, "token", "", "a merchant's access token")
}

func (c *cli) signCommand() *cobra.Command {
	var f signFlags
	var showBase, asCurl bool
	cmd := c.verb("sign URL", "Signs a call and prints it", `  caddy open-platform sign https://localhost:8443/v1/products
  caddy open-platform sign -d @order.json --show-base https://localhost:8443/v1/orders
  caddy open-platform sign --curl --credentials app.json https://localhost:8443/v1/products
  caddy open-platform sign --dialect top --app-key ak_7Yq2m0VtB1cD3eF4gH5i --secret-file top.secret 'https://localhost:8443/router?method=trade.order.list'`,
		func(_ context.Context, cmd *cobra.Command, args []string) error {
			call, err := c.signCall(cmd, &f, args[0])
			if err != nil {
				return err
			}
			if asCurl {
				line, err := call.curl(f.data)
				if err != nil {
					return err
				}
				return c.print(cmd, map[string]string{"curl": line}, func(w io.Writer) { fmt.Fprintln(w, line) })
			}
			if !showBase {
				call.StringToSign = ""
			}
			return c.print(cmd, call.json(), func(w io.Writer) {
				call.write(w, "", masking(""))
				if len(call.Body) > 0 {
					fmt.Fprintf(w, "\n%s\n", call.Body)
				}
				if showBase {
					fmt.Fprintf(w, "\nString to sign:\n%s\n", call.StringToSign)
				}
			})
		})
	f.register(cmd)
	cmd.Flags().BoolVar(&showBase, "show-base", false, "print the string to sign too, the secret masked")
	cmd.Flags().BoolVar(&asCurl, "curl", false, "print a curl command that sends the call")
	return cmd
}

// signedCall is a call that is ready to be sent.
type signedCall struct {
	Method       string
	URL          *url.URL
	Host         string
	Header       http.Header
	Body         []byte
	StringToSign string // with secret masked
	changed      bool   // the signature went into the body
}

// signCall builds the call that the flags describe and signs it.
func (c *cli) signCall(cmd *cobra.Command, f *signFlags, rawURL string) (*signedCall, error) {
	f.credentialsSet, f.secretSet = cmd.Flags().Changed("credentials"), cmd.Flags().Changed("secret")
	f.secretFileSet = cmd.Flags().Changed("secret-file")
	call, err := f.call(rawURL)
	if err != nil {
		return nil, err
	}
	if !signing.Known(f.dialect) {
		return nil, usagef("--dialect: %q is unknown; want one of %s", f.dialect, strings.Join(signing.Names(), ", "))
	}
	cred, secret, err := f.signer()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	if _, err := io.ReadFull(c.rand, nonce); err != nil {
		return nil, fmt.Errorf("making a nonce: %w", err)
	}
	signed, err := signing.Sign(f.dialect, &signing.Request{
		Method: call.Method, Scheme: call.URL.Scheme, Authority: call.Host,
		Path: call.URL.EscapedPath(), RawQuery: call.URL.RawQuery, Header: call.Header,
		ContentLength: int64(len(call.Body)), Body: call.Body, BodyRead: true,
	}, *cred, c.now(), hex.EncodeToString(nonce))
	if err != nil {
		return nil, usagef("%v", err)
	}
	call.Header, call.URL.RawQuery = signed.Header, signed.RawQuery
	if signed.Body != nil {
		call.changed = string(signed.Body) != string(call.Body)
		call.Body = signed.Body
	}
	call.StringToSign = signed.StringToSign
	if secret != "" { // the dialect has masked it already; this holds whatever it does
		call.StringToSign = strings.ReplaceAll(call.StringToSign, secret, "***")
	}
	return call, nil
}

// call reads URL, method, headers and body.
func (f *signFlags) call(rawURL string) (*signedCall, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	call := &signedCall{Method: f.method, URL: u, Host: u.Host, Header: http.Header{}}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usagef("-H: %q is no header; want \"Name: value\"", name)
		}
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			call.Host = value
			continue
		}
		call.Header.Add(strings.TrimSpace(name), value)
	}
	call.Body = []byte(f.data)
	if name, ok := strings.CutPrefix(f.data, "@"); ok {
		if call.Body, err = readInput("-d", name, adminapi.MaxBody); err != nil {
			return nil, err
		}
	}
	if call.Method == "" {
		call.Method = http.MethodGet
		if f.data != "" {
			call.Method = http.MethodPost
		}
	}
	if len(call.Body) > 0 && call.Header.Get("Content-Type") == "" {
		call.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if json.Valid(call.Body) {
			call.Header.Set("Content-Type", "application/json")
		}
	}
	if _, err := http.NewRequest(call.Method, u.String(), nil); err != nil { //nolint:noctx // only checked, never sent
		return nil, usagef("-X: %q is no method", call.Method)
	}
	return call, nil
}

// parseURL accepts what can be signed and sent as it is written.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, usagef("URL: want https://host/path, with blanks and other special characters percent-encoded")
	case u.User != nil:
		return nil, usagef("URL: a user name in it is not sent; leave it out")
	case strings.ContainsFunc(u.RawQuery, func(r rune) bool { return r <= ' ' || r >= utf8.RuneSelf }):
		return nil, usagef("URL: the query has a blank or a character outside ASCII; percent-encode it: %%20")
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// credentialsFile is the file of --credentials.
type credentialsFile struct {
	AppKey      string `json:"app_key"`
	Secret      string `json:"secret"`
	Environment string `json:"environment"`
	// RedirectURI is where merchants come back to who authorize the app.
	RedirectURI string `json:"redirect_uri"`
}

// readCredentials reads a credentials file. Errors never quote its content.
func readCredentials(name string) (*credentialsFile, error) {
	data, err := readInput("--credentials", name, 64<<10)
	if err != nil {
		return nil, err
	}
	var file credentialsFile
	if json.Unmarshal(data, &file) != nil || file.AppKey == "" {
		return nil, usagef(`--credentials: %s has no app key; want {"app_key":"…","secret":"…"}, as "app create --json" prints it`, name)
	}
	return &file, nil
}

// signer finds the app key and what to sign with: a private key, a secret from
// a file, a flag or the environment, or the credentials file. It returns the
// secret too, so that it can be masked.
func (f *signFlags) signer() (*signing.Credentials, string, error) {
	secret, err := f.explicitSecret()
	if err != nil {
		return nil, "", err
	}
	appKey := f.appKey
	if appKey == "" || secret == "" && f.keyFile == "" {
		file, err := readCredentials(f.credentials)
		switch {
		case err != nil && !f.credentialsSet:
			return nil, "", usagef("no credentials: give --credentials FILE, or --app-key with --secret-file FILE (%v)", err)
		case err != nil:
			return nil, "", err
		case appKey == "":
			appKey = file.AppKey
		}
		if own, _, _ := strings.Cut(appKey, "#"); own == file.AppKey && secret == "" && f.keyFile == "" {
			secret = file.Secret
		}
	}
	cred := &signing.Credentials{AppKey: appKey, Token: f.token}
	if own, n, ok := strings.Cut(appKey, "#"); ok {
		if cred.KeyNumber, err = strconv.Atoi(n); err != nil || cred.KeyNumber < 1 {
			return nil, "", usagef("--app-key: %q is no credential number; want appKey#1, appKey#2, …", n)
		}
		cred.AppKey = own
	}
	switch {
	case f.keyFile != "":
		pem, err := readInput("--key-file", f.keyFile, 64<<10)
		if err != nil {
			return nil, "", err
		}
		if cred.Key, err = signing.NewSigningPrivateKey(pem); err != nil {
			return nil, "", usagef("--key-file: %v", err)
		}
	case secret == "":
		return nil, "", usagef("no secret for %s: give --secret-file FILE, set %s, or give --credentials FILE", cred.AppKey, secretVariable)
	default:
		if cred.Key, err = signing.NewSigningSecret(f.dialect, f.digest, []byte(secret)); err != nil {
			return nil, "", usagef("%v", err)
		}
	}
	return cred, secret, nil
}

// explicitSecret is the secret that the user gave for this call, or "".
func (f *signFlags) explicitSecret() (string, error) {
	switch {
	case f.keyFile != "" && (f.secretSet || f.secretFileSet):
		return "", usagef("--key-file and a secret exclude each other; give one")
	case f.secretSet && f.secretFileSet:
		return "", usagef("--secret and --secret-file exclude each other; give one")
	case f.keyFile != "":
		return "", nil
	case f.secretFileSet:
		data, err := readInput("--secret-file", f.secretFile, 64<<10)
		if err != nil {
			return "", err
		}
		if data = []byte(strings.TrimSpace(string(data))); len(data) == 0 {
			return "", usagef("--secret-file: %s is empty", f.secretFile)
		}
		return string(data), nil
	case f.secretSet:
		return f.secret, nil
	case f.credentialsSet:
		return "", nil
	}
	return os.Getenv(secretVariable), nil
}
