package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TokenVerifier tells on whose behalf an app calls. The authorization server
// fills it. Errors wrap ErrTokenMissing, ErrTokenInvalid, ErrTokenExpired,
// ErrScopeInsufficient or ErrProofInvalid of package platform; any other means
// that the token could not be checked.
type TokenVerifier interface {
	// Verify checks the token ("" when the call has none) for a call of app
	// to an API of package scope.
	Verify(ctx context.Context, token string, app *platform.App, env platform.Environment, scope string) (User, error)
	// VerifyProof is Verify for a token that came with a proof of its key.
	VerifyProof(ctx context.Context, token string, proof platform.Proof, app *platform.App, env platform.Environment, scope string) (User, error)
}

// Token is what a call shows of a merchant's authorization.
type Token struct {
	// Value is the access token; "" for none.
	Value string
	// Proof goes with a token that came as "Authorization: DPoP" (RFC 9449
	// section 7.1); nil for any other.
	Proof *platform.Proof
}

// noTokens stands in while there is no authorization server.
type noTokens struct{}

func (noTokens) Verify(context.Context, string, *platform.App, platform.Environment, string) (User, error) {
	return User{}, platform.ErrTokenMissing
}

func (noTokens) VerifyProof(context.Context, string, platform.Proof, *platform.App, platform.Environment, string) (User, error) {
	return User{}, platform.ErrTokenMissing
}

// Authorize finds the API that the call is for and checks that it serves, that
// the app holds its package, and that the merchant agreed where it must.
// rawPath is the path as it will be forwarded.
func (g *Gate) Authorize(ctx context.Context, c *Call, method, rawPath string, token Token) *Refusal {
	if !c.Verified {
		return refuse(StageScope, SignatureMissing, "the call has not passed open_sign on this route")
	}
	if refusal := g.route(c, method, rawPath); refusal != nil {
		return refusal
	}
	if !c.api.serves(c.Started) {
		return refuse(StageScope, APIOffline, c.api.ID()+" is offline")
	}
	if refusal := g.checkPackage(c); refusal != nil {
		return refusal
	}
	if refusal := g.checkUser(ctx, c, token); refusal != nil {
		return refusal
	}
	c.granted = true
	return nil
}

// route sets the API: by name where the dialect carries one, else by method
// and path. A call that has a name and the path of an API is for that one or
// refused: dialects that carry names do not sign the path, and services may go by
// it. For the same reason such a dialect does not choose the API by the path alone.
func (g *Gate) route(c *Call, method, rawPath string) *Refusal {
	if err := checkPath(rawPath); err != nil {
		return refuse(StageScope, RequestMalformed, err.Error())
	}
	if name := c.Claim.APIName; name != "" {
		c.api = c.catalog.named(name, c.Claim.APIVersion, c.Started)
		if c.api == nil {
			return refuse(StageScope, APIUnknown, fmt.Sprintf("no API is named %.100q", name))
		}
		if found, allowed := c.catalog.routes.find(method, rawPath); found != c.api && (found != nil || len(allowed) > 0) {
			return refuse(StageScope, RequestMalformed, fmt.Sprintf(
				"the call names %s, but not by its method and path, and the path is an API's: send it to a path that is none, as SDKs do", c.api.ID()))
		}
		return nil
	}
	if c.Claim.Unnamed != "" {
		return refuse(StageScope, APIUnknown, fmt.Sprintf("a call in the dialect %s names its API: %s", c.Claim.Dialect, c.Claim.Unnamed))
	}
	found, allowed := c.catalog.routes.find(method, rawPath)
	if path := strings.TrimPrefix(rawPath, c.Claim.Endpoint); found == nil && len(allowed) == 0 && strings.HasPrefix(path, "/") {
		found, allowed = c.catalog.routes.find(method, path)
	}
	switch {
	case found != nil:
		c.api = found
		return nil
	case len(allowed) > 0:
		allow := strings.Join(allowed, ", ")
		r := refuse(StageScope, MethodNotAllowed, "this path takes "+allow)
		r.Allow = allow
		return r
	}
	return refuse(StageScope, APIUnknown, "no API has this path")
}

func (g *Gate) checkPackage(c *Call) *Refusal {
	if c.api.Package == platform.BasicPackage {
		return nil
	}
	period, ok := c.app.period(c.api.packageName)
	if !ok {
		return refuse(StageScope, PackageNotGranted, fmt.Sprintf(
			"%s needs the package %s, which the app does not have", c.api.ID(), c.api.Package))
	}
	switch period.State(c.Started) {
	case platform.NotYet:
		return refuse(StageScope, PackageExpired, fmt.Sprintf(
			"the app's package %s begins on %s", c.api.Package, period.From.UTC().Format("2006-01-02 15:04 MST")))
	case platform.Expired:
		return refuse(StageScope, PackageExpired, fmt.Sprintf(
			"the app's package %s ended on %s", c.api.Package, period.Until.UTC().Format("2006-01-02 15:04 MST")))
	}
	return nil
}

func (g *Gate) checkUser(ctx context.Context, c *Call, token Token) *Refusal {
	if !c.api.UserToken {
		return nil
	}
	user, err := g.userOf(ctx, c, token)
	if err == nil {
		c.user = user
		return nil
	}
	switch {
	case errors.Is(err, platform.ErrTokenMissing):
		r := refuse(StageScope, TokenMissing, c.api.ID()+" needs a merchant's access token")
		r.Challenge = token.challenge()
		return r
	case errors.Is(err, platform.ErrProofInvalid):
		r := refuse(StageScope, TokenInvalid, err.Error())
		r.Challenge = token.challenge(`error="invalid_dpop_proof"`)
		return r
	case errors.Is(err, platform.ErrTokenInvalid):
		r := refuse(StageScope, TokenInvalid, "the access token is not valid for this app and environment")
		if token.Proof != nil {
			r.Detail += ", or not bound to the key of the DPoP proof"
		}
		r.Challenge = token.challenge(`error="invalid_token"`)
		return r
	case errors.Is(err, platform.ErrTokenExpired):
		r := refuse(StageScope, TokenExpired, "the access token has expired; refresh it")
		r.Challenge = token.challenge(`error="invalid_token"`, `error_description="expired"`)
		return r
	case errors.Is(err, platform.ErrScopeInsufficient):
		r := refuse(StageScope, ScopeInsufficient, "the merchant did not authorize "+c.api.Package)
		r.Challenge = token.challenge(`error="insufficient_scope"`, `scope="`+c.api.Package+`"`)
		return r
	}
	return unavailable(StageScope, err)
}

func (g *Gate) userOf(ctx context.Context, c *Call, token Token) (User, error) {
	if token.Proof != nil {
		return g.tokens.VerifyProof(ctx, token.Value, *token.Proof, c.app.App, c.Environment, c.api.Package)
	}
	return g.tokens.Verify(ctx, token.Value, c.app.App, c.Environment, c.api.Package)
}

// challenge is the value of WWW-Authenticate that goes with a refused token, in
// the scheme that it came in (RFC 6750 section 3, RFC 9449 section 7.1).
func (t Token) challenge(params ...string) string {
	if t.Proof != nil {
		return "DPoP " + strings.Join(append(params, `algs="ES256 EdDSA PS256 RS256"`), ", ")
	}
	return strings.Join(append([]string{`Bearer realm="open_platform"`}, params...), ", ")
}
