// Package adminapitest runs the admin API for tests: of itself, and of the
// command line that calls it. Nothing but tests imports it.
package adminapitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
)

// Server is an admin endpoint that renders errors as Caddy does, and
// remembers what Caddy would log: the request line and the errors.
type Server struct {
	*httptest.Server

	Platform *Platform

	mu  sync.Mutex
	log []string
}

// NewServer starts an admin endpoint over an empty platform. It is closed when
// the test ends.
func NewServer(t *testing.T) *Server {
	t.Helper()
	s := &Server{Platform: newPlatform(t)}
	serve := adminapi.New(s.Platform).Routes()[0].Handler
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := serve.ServeHTTP(w, r)
		s.mu.Lock()
		s.log = append(s.log, fmt.Sprint(r.Method, " ", r.RequestURI, " ", err))
		s.mu.Unlock()
		if err == nil {
			return
		}
		var apiErr caddy.APIError
		if !errors.As(err, &apiErr) {
			apiErr = caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(apiErr.HTTPStatus)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": apiErr.Err.Error()})
	}))
	t.Cleanup(s.Close)
	return s
}

// Logged is what Caddy would have logged so far, a line for each request.
func (s *Server) Logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}
