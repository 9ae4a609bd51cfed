package oauth

import (
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"
)

// compatReply is 1688's answer to getToken. Its numbers are strings.
type compatReply struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   string `json:"expires_in"`
	Scope       string `json:"scope"`
	// RefreshToken comes only on need_refresh_token=true, and
	// RefreshTokenTimeout, the moment at which it ends, with it.
	RefreshToken        string `json:"refresh_token,omitempty"`
	RefreshTokenTimeout string `json:"refresh_token_timeout,omitempty"`
	// ResourceOwner is what the merchant logs in with, MemberID and AliID are
	// the merchant's ID.
	ResourceOwner string `json:"resource_owner,omitempty"`
	MemberID      string `json:"memberId,omitempty"`
	AliID         string `json:"aliId,omitempty"`
}

// compatParams are the parameters of 1688's token endpoint. The open ones may
// stand in the URL, as they do in 1688's own examples; secrets may not.
var (
	compatOpenParams = []string{"grant_type", "client_id", "redirect_uri", "need_refresh_token"}
	compatParams     = append(slices.Clone(tokenParams), "need_refresh_token")
)

// chinaTime is the zone of 1688's times.
var chinaTime = time.FixedZone("", 8*60*60)

// serveCompatToken is serveToken with 1688's names. The rules are the same.
func (s *Server) serveCompatToken(r *http.Request) (any, *refusal) {
	p, refused := readForm(r, compatParams)
	if refused != nil {
		return nil, refused
	}
	if refused := p.add(r.URL.RawQuery, compatOpenParams); refused != nil {
		return nil, refused
	}
	if refused := p.refuseRepeated(); refused != nil {
		return nil, refused
	}
	if s.DPoP && r.Header.Get("DPoP") != "" {
		return nil, refuse(invalidRequest, "this address gives Bearer tokens alone; send the DPoP proof to "+s.url("/token"))
	}
	appKey := path.Base(r.URL.Path)
	if p.get("client_id") == "" {
		p.values["client_id"] = appKey
	}
	if p.get("client_id") != appKey {
		return nil, refuse(invalidRequest, "client_id differs from the appKey in the path")
	}
	app, refused := s.authenticate(r, p)
	if refused != nil {
		return nil, refused
	}
	req := &tokenRequest{params: p, app: app, now: s.Now(), wantRefresh: p.get("need_refresh_token") == "true"}
	out, refused := s.grantTokens(r.Context(), req)
	if refused != nil {
		return nil, refused
	}
	reply := &compatReply{
		AccessToken: out.accessValue, TokenType: "Bearer", Scope: formatScope(out.access.Scopes),
		ExpiresIn: strconv.FormatInt(secondsLeft(out.access, req.now), 10),
	}
	if out.refresh != nil {
		reply.RefreshToken = out.refreshValue
		reply.RefreshTokenTimeout = compatTime(out.refresh.ExpiresAt)
	}
	if out.access.User != "" {
		u, refused := s.activeUser(r.Context(), out.access.User)
		if refused != nil {
			return nil, refused
		}
		reply.ResourceOwner, reply.MemberID, reply.AliID = u.Login, u.ID, u.ID
		if u.Login == "" {
			reply.ResourceOwner = u.Name
		}
	}
	return reply, nil
}

// compatTime writes a time as 1688 does: yyyyMMddHHmmssSSSZ.
func compatTime(t time.Time) string {
	t = t.In(chinaTime)
	return t.Format("20060102150405") + t.Format(".000")[1:] + t.Format("-0700")
}
