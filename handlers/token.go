package handlers

import (
	"net/http"
	"strings"
)

// bearer takes the access token out of the Authorization header (RFC 6750
// section 2.1, RFC 9449 section 7.1): the upstream learns who the merchant is,
// and never gets to hold the token. Other schemes, such as Basic for an
// upstream of its own, stay.
func bearer(h http.Header) string {
	values := h["Authorization"]
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
		return ""
	}
	delete(h, "Authorization")
	return strings.TrimSpace(token)
}
