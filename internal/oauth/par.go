package oauth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// requestURIPrefix is what request URIs begin with (RFC 9126 section 2.2).
	requestURIPrefix = "urn:ietf:params:oauth:request_uri:"
	// pushedLifetime is how long a pushed request can be begun.
	pushedLifetime = 90 * time.Second
	// maxPushed bounds a pushed request, in bytes, so that its URI fits into any
	// URL.
	maxPushed = 2 << 10
)

// pushedParams are the parameters of the endpoint for pushed requests: those of
// the request, and those that say who makes it.
var pushedParams = append(slices.Clone(authorizeParams), "client_secret", "client_assertion", "client_assertion_type")

// pushed is a request that was checked before its browser came. It travels,
// encrypted, in its request URI, so that no node has to keep it.
type pushed struct {
	ClientID  string `json:"c"`
	Query     string `json:"q"`
	ExpiresAt int64  `json:"e"`
}

// pushedReply is the answer of RFC 9126 section 2.2.
type pushedReply struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// servePushed takes an authorization request from the app itself (RFC 9126
// section 2.1) and checks it as the authorization endpoint would.
func (s *Server) servePushed(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, pushedParams)
	if refused != nil {
		return nil, refused
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	if p.get("request_uri") != "" {
		return nil, refuse(invalidRequest, "request_uri must not be pushed itself")
	}
	p.values["client_id"] = app.Key // HTTP Basic names it elsewhere
	request := &AuthorizationRequest{}
	if refused := s.identify(r.Context(), request, p); refused != nil {
		return nil, refused
	}
	if refused := s.checkAuthorization(request, p); refused != nil {
		return nil, refused
	}
	// A proof does what dpop_jkt does (RFC 9449 section 10.1).
	key, proof, refused := s.proofKey(r, "/par")
	if refused != nil {
		return nil, refused
	}
	if key != "" {
		if request.Key != "" && request.Key != key {
			return nil, refuse(invalidRequest, "dpop_jkt is of another key than the DPoP proof")
		}
		p.values["dpop_jkt"] = key
	}
	query := p.query(authorizeParams)
	if len(query) > maxPushed {
		return nil, refuse(bodyTooLarge, "the request is too large to be pushed")
	}
	if refused := s.useProof(r.Context(), app, key, proof); refused != nil {
		return nil, refused
	}
	uri, err := s.sealPushed(pushed{ClientID: app.Key, Query: query, ExpiresAt: s.Now().Add(pushedLifetime).Unix()})
	if err != nil {
		return nil, failed(err)
	}
	return &pushedReply{RequestURI: uri, ExpiresIn: int64(pushedLifetime / time.Second)}, nil
}

// query writes the parameters of those names.
func (p *params) query(names []string) string {
	q := url.Values{}
	for _, name := range names {
		if v := p.get(name); v != "" {
			q.Set(name, v)
		}
	}
	if len(p.resources) > 0 {
		q["resource"] = p.resources
	}
	return q.Encode()
}

// unpush returns the query of the request that was pushed, if this one refers to
// one (RFC 9126 section 4), and rawQuery itself if not.
func (s *Server) unpush(rawQuery string) (string, *refusal) {
	p, refused := parseParams(rawQuery, []string{"client_id", "request_uri"})
	if refused != nil {
		return "", refused
	}
	if refused := p.refuseRepeated(); refused != nil {
		return "", refused
	}
	uri := p.get("request_uri")
	if s.Secrets == nil || !strings.HasPrefix(uri, requestURIPrefix) {
		return rawQuery, nil
	}
	got, ok := s.openPushed(uri)
	if !ok || got.ClientID != p.get("client_id") || s.Now().Unix() >= got.ExpiresAt {
		return "", refuse(invalidRequestURI, "request_uri is unknown, expired, or belongs to another app")
	}
	return got.Query, nil
}

func (s *Server) sealPushed(v pushed) (string, error) {
	sealed, err := seal(s.Rand, s.Secrets(), s.derivePushed, v)
	return requestURIPrefix + sealed, err
}

func (s *Server) openPushed(uri string) (v pushed, ok bool) {
	ok = unseal(s.Secrets(), s.derivePushed, strings.TrimPrefix(uri, requestURIPrefix), &v)
	return v, ok
}

func (s *Server) derivePushed(secret []byte) ([]byte, error) {
	return s.derive(secret, "pushed requests")
}
