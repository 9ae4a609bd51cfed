package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.uber.org/zap"
	"golang.org/x/oauth2"
)

// oauth is our side as a client of the provider.
func (p *provider) oauth(d *description, redirectURI string) *oauth2.Config {
	endpoint := d.Endpoint()
	// client_secret_basic is what a provider takes that does not say.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.config.ClientSecret == "" || len(d.Methods) > 0 && !slices.Contains(d.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: endpoint, RedirectURL: redirectURI,
		Scopes: append([]string{oidc.ScopeOpenID}, p.config.Scopes...),
	}
}

// identity is who the provider says that a merchant is.
type identity struct{ subject, name string }

// checkAnswer holds the provider's answer in the merchant's browser to what it must
// say (OpenID Connect Core 1.0 section 3.1.2.5).
func (p *provider) checkAnswer(d *description, said url.Values) error {
	issuer, named := said["iss"]
	if named && issuer[0] != p.config.Issuer || !named && d.NamesIssuer {
		return fmt.Errorf("%w: the answer is another provider's: iss differs or is missing (RFC 9207)", errNotProven)
	}
	switch code := said.Get("error"); {
	case code == "server_error", code == "temporarily_unavailable":
		return fmt.Errorf("%w: it answers %s", errNoProvider, code)
	case code != "":
		return fmt.Errorf("%w: the OpenID provider answers %.60q", errNotProven, code)
	case said.Get("code") == "":
		return fmt.Errorf("%w: the answer has no code", errNotProven)
	}
	return nil
}

// identify exchanges the code for an ID token and checks that (OpenID Connect Core
// 1.0 section 3.1.3.7). The error is errNotProven or errNoProvider.
func (p *provider) identify(ctx context.Context, d *description, redirectURI, code string, l *logIn) (identity, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), exchangeTimeout)
	defer cancel()
	token, err := p.oauth(d, redirectURI).Exchange(ctx, code, oauth2.VerifierOption(l.Verifier))
	if answer, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		reason := errNoProvider
		if answer.ErrorCode == "invalid_grant" {
			reason = errNotProven
		}
		// The whole answer may repeat what was sent.
		return identity{}, fmt.Errorf("%w: it answers to the code with %d %.60q", reason, answer.Response.StatusCode, answer.ErrorCode)
	}
	if err != nil {
		return identity{}, fmt.Errorf("%w: exchanging the code: %w", errNoProvider, clipped(err))
	}
	raw, _ := token.Extra("id_token").(string)
	keys := keySet{RemoteKeySet: d.keys}
	verifier := oidc.NewVerifier(p.config.Issuer, &keys, &oidc.Config{
		ClientID: p.config.ClientID, SupportedSigningAlgs: asymmetric(d.Algorithms), Now: p.now,
	})
	claims, err := verifier.Verify(ctx, raw)
	switch {
	case keys.failed != nil:
		return identity{}, fmt.Errorf("%w: asking for its keys: %w", errNoProvider, clipped(keys.failed))
	case err != nil:
		return identity{}, fmt.Errorf("%w: %w", errNotProven, clipped(err))
	}
	var said map[string]any
	if err := claims.Claims(&said); err != nil {
		return identity{}, fmt.Errorf("%w: reading the ID token: %w", errNotProven, err)
	}
	if err := checkIDToken(claims, said, p.config.ClientID, l.Nonce, token.AccessToken); err != nil {
		return identity{}, fmt.Errorf("%w: %w", errNotProven, err)
	}
	return identity{claims.Subject, p.name(ctx, d, said, claims.Subject, token)}, nil
}

// checkIDToken checks what the library leaves to its users.
func checkIDToken(t *oidc.IDToken, said map[string]any, clientID, nonce, accessToken string) error {
	azp, named := said["azp"]
	switch {
	case nonce == "" || t.Nonce != nonce:
		return errors.New("the ID token is for another log-in: its nonce differs")
	case named && azp != clientID, !named && len(t.Audience) != 1:
		return errors.New("the ID token was issued to another client: azp differs, or is missing beside several audiences")
	case t.Subject == "" || len(t.Subject) > maxIdentity:
		return errors.New("the ID token names no subject, or one that is too long")
	case t.AccessTokenHash != "":
		return t.VerifyAccessToken(accessToken)
	}
	return nil
}

// name is the shop's name, from the ID token or else from the userinfo endpoint;
// "" where the provider tells none.
func (p *provider) name(ctx context.Context, d *description, said map[string]any, subject string, token *oauth2.Token) string {
	if name, ok := said[p.config.NameClaim].(string); ok {
		return shopName(name)
	}
	if checkEndpoint(d.UserInfoEndpoint()) != nil {
		return ""
	}
	info, err := d.UserInfo(ctx, oauth2.StaticTokenSource(token))
	var more map[string]any
	if err == nil {
		err = info.Claims(&more)
	}
	// OpenID Connect Core 1.0 section 5.3.2: or else they are somebody else's.
	if err == nil && info.Subject != subject {
		err = errors.New("its subject differs from that of the ID token")
	}
	if err != nil {
		p.logger.Warn("name of a merchant not learnt from the userinfo endpoint", zap.Error(clipped(err)))
		return ""
	}
	name, _ := more[p.config.NameClaim].(string)
	return shopName(name)
}

// maxShopName bounds a shop's name, in characters.
const maxShopName = 100

func shopName(said string) string {
	name := []rune(plain(strings.ToValidUTF8(said, "")))
	return strings.TrimSpace(string(name[:min(len(name), maxShopName)]))
}

// keySet keeps apart that a signature is wrong and that no keys were to be had.
type keySet struct {
	*oidc.RemoteKeySet
	failed error
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.RemoteKeySet.VerifySignature(ctx, token)
	if err != nil && strings.HasPrefix(err.Error(), "fetching keys") {
		k.failed = err
	}
	return payload, err
}

// asymmetric are the algorithms that are signatures, and not made with our own
// secret or with none.
func asymmetric(announced []string) []string {
	var kept []string
	for _, algorithm := range announced {
		if !strings.HasPrefix(algorithm, "HS") && algorithm != "none" {
			kept = append(kept, algorithm)
		}
	}
	return kept
}

// Interface guard
var _ oidc.KeySet = (*keySet)(nil)
