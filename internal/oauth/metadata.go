package oauth

import (
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// metadata describes the server (RFC 8414 section 2). It names exactly what
// works.
type metadata struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	// PushedEndpoint is of RFC 9126 section 5, DeviceEndpoint of RFC 8628 section 4.
	PushedEndpoint   string   `json:"pushed_authorization_request_endpoint,omitempty"`
	DeviceEndpoint   string   `json:"device_authorization_endpoint,omitempty"`
	JWKS             string   `json:"jwks_uri,omitempty"`
	Scopes           []string `json:"scopes_supported,omitempty"`
	ResponseTypes    []string `json:"response_types_supported"`
	ResponseModes    []string `json:"response_modes_supported"`
	GrantTypes       []string `json:"grant_types_supported"`
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	// How apps authenticate, and with which algorithms where they sign.
	TokenAuth               []string                  `json:"token_endpoint_auth_methods_supported"`
	TokenAlgorithms         []jose.SignatureAlgorithm `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuth          []string                  `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAlgorithms    []jose.SignatureAlgorithm `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuth       []string                  `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAlgorithms []jose.SignatureAlgorithm `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	// ProofAlgorithms is of RFC 9449 section 5.1.
	ProofAlgorithms []jose.SignatureAlgorithm `json:"dpop_signing_alg_values_supported,omitempty"`
	// IssInResponse is of RFC 9207 section 3.
	IssInResponse bool `json:"authorization_response_iss_parameter_supported"`
}

func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.writeRefusal(w, r, refuse(methodNotAllowed, "use GET"))
		return
	}
	proving := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	all := append(slices.Clone(proving), "none")
	m := &metadata{
		Issuer:                  s.Issuer,
		AuthorizationEndpoint:   s.url("/authorize"),
		TokenEndpoint:           s.url("/token"),
		RevocationEndpoint:      s.url("/revoke"),
		IntrospectionEndpoint:   s.url("/introspect"),
		ResponseTypes:           []string{"code"},
		ResponseModes:           []string{"query"},
		GrantTypes:              s.grantTypes(),
		ChallengeMethods:        []string{"S256"},
		TokenAuth:               all,
		TokenAlgorithms:         assertionAlgorithms,
		RevocationAuth:          all,
		RevocationAlgorithms:    assertionAlgorithms,
		IntrospectionAuth:       proving,
		IntrospectionAlgorithms: assertionAlgorithms,
		IssInResponse:           true,
	}
	if s.DPoP {
		m.ProofAlgorithms = proofAlgorithms
	}
	if s.Activation != "" {
		m.DeviceEndpoint = s.url("/device")
	}
	if s.Secrets != nil {
		m.JWKS = s.url("/jwks")
		m.PushedEndpoint = s.url("/par")
	}
	if s.Catalog != nil {
		c, err := s.Catalog(r.Context())
		if err != nil {
			s.writeRefusal(w, r, failed(err))
			return
		}
		for i := range c.Packages {
			if name := c.Packages[i].Name; name != platform.BasicPackage {
				m.Scopes = append(m.Scopes, name)
			}
		}
		slices.Sort(m.Scopes)
	}
	writeJSON(w, http.StatusOK, m)
}
