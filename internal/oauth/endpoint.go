package oauth

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// serve answers a request whose form was not read yet. The reply is written as
// JSON; nil is an empty one.
type serve func(r *http.Request) (reply any, refused *refusal)

// endpoint makes a handler of an endpoint that apps call themselves: POST (RFC
// 6749 section 3.2), over TLS (section 1.6), never cached (section 5.1).
func (s *Server) endpoint(status int, serve serve) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		reply, refused := s.checked(serve, w, r)
		if refused != nil {
			s.writeRefusal(w, r, refused)
			return
		}
		writeJSON(w, status, reply)
	})
}

func (s *Server) checked(serve serve, w http.ResponseWriter, r *http.Request) (any, *refusal) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refuse(methodNotAllowed, "use POST")
	}
	if !s.Secure(r) {
		return nil, refuse(invalidRequest, "use https")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	return serve(r)
}

// secretParams must never stand in a URL, which ends up in logs (RFC 6749
// section 2.3.1, RFC 9700 section 4.3.2).
var secretParams = []string{
	"client_secret", "client_assertion", "code", "code_verifier", "device_code", "refresh_token", "access_token", "token",
}

// readForm reads the parameters of the body.
func readForm(r *http.Request, known []string) (*params, *refusal) {
	if inURL, refused := parseParams(r.URL.RawQuery, secretParams); refused != nil {
		return nil, refused
	} else if len(inURL.values) > 0 {
		return nil, refuse(invalidRequest, "a secret stands in the URL; send all parameters in the body, and replace that secret")
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, refuse(invalidRequest, "Content-Type is not application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, refuse(bodyTooLarge, "the body is too large")
	} else if err != nil {
		return nil, refuse(invalidRequest, "the body could not be read")
	}
	p, refused := parseParams(string(body), known)
	if refused != nil {
		return nil, refused
	}
	return p, p.refuseRepeated()
}

// errorReply is how an endpoint says no (RFC 6749 section 5.2).
type errorReply struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func (s *Server) writeRefusal(w http.ResponseWriter, r *http.Request, refused *refusal) {
	if refused.err != nil {
		s.Report(r, refused.err)
	}
	h := w.Header()
	if refused.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="open_platform", charset="UTF-8"`)
	}
	if after := refused.retrySeconds(); after != "" {
		h.Set("Retry-After", after)
	}
	writeJSON(w, refused.status, errorReply{Error: refused.name, Description: ascii(refused.description)})
}

func writeJSON(w http.ResponseWriter, status int, reply any) {
	body, err := json.Marshal(reply)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
