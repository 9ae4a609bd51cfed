package handlers

import (
	"net/http"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// takeToken takes the access token out of the request, and the proof that may go
// with it: the upstream learns who the merchant is, and never gets to hold
// either. Dialects that carry the token as a parameter have it there and nowhere
// else: they do not sign the header.
func (x *exchange) takeToken() {
	h := x.request.Header
	proofs := h["Dpop"]
	delete(h, "Dpop")
	value, proven := authorization(h)
	if x.call.Claim.InParameters() {
		value, proven = x.call.Claim.Token, false
	}
	x.token.Value = value
	if proven {
		x.token.Proof = &platform.Proof{Headers: proofs, Method: x.signed.Method, URL: x.sentURL()}
	}
}

// authorization takes the access token out of the Authorization header (RFC 6750
// section 2.1, RFC 9449 section 7.1) and tells whether a proof has to go with
// it. Other schemes, such as Basic for the upstream's own purposes, stay. Of two
// tokens neither counts, and neither stays.
func authorization(h http.Header) (token string, proven bool) {
	values := h["Authorization"]
	for _, v := range values {
		scheme, token, _ := strings.Cut(v, " ")
		proven := strings.EqualFold(scheme, "DPoP")
		if !proven && !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		delete(h, "Authorization")
		if len(values) > 1 {
			return "", false
		}
		return strings.TrimSpace(token), proven
	}
	return "", false
}

// sentURL is the call's URL without query as the client sent it.
func (x *exchange) sentURL() string {
	return x.signed.Scheme + "://" + x.signed.Authority + x.signed.Path
}
