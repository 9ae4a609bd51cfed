package handlers

import (
	"net/http"
	"strings"
)

// bearer takes the access token out of the Authorization header (RFC 6750
// section 2.1, RFC 9449 section 7.1): the upstream learns who the merchant is,
// and never gets to hold the token. Other schemes, such as Basic for the
// upstream's own purposes, stay. Of two tokens neither counts, and neither
// stays.
func bearer(h http.Header) string {
	values := h["Authorization"]
	for _, v := range values {
		scheme, token, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
			continue
		}
		delete(h, "Authorization")
		if len(values) > 1 {
			return ""
		}
		return strings.TrimSpace(token)
	}
	return ""
}
