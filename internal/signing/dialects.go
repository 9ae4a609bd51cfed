package signing

import (
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// joinKeyValue appends path part, names and values without delimiters, sorted
// by name, and a body that is no form.
func joinKeyValue(dst []byte, p *paramState, drop bool) []byte {
	dst = append(dst, p.prefix...)
	for _, q := range p.params {
		if drop && blank(q.value) {
			continue
		}
		dst = append(dst, q.name...)
		dst = append(dst, q.value...)
	}
	return append(dst, p.raw...)
}

// joinPairsSorted is aop1688's: the strings "name+value" are sorted, not the
// names.
func joinPairsSorted(dst []byte, p *paramState, _ bool) []byte {
	pairs := make([]string, len(p.params))
	for i, q := range p.params {
		pairs[i] = q.name + q.value
	}
	slices.Sort(pairs)
	dst = append(dst, p.prefix...)
	for _, pair := range pairs {
		dst = append(dst, pair...)
	}
	return dst
}

// joinKuaishou is name=value joined by &, not encoded; the secret follows as a
// last parameter.
func joinKuaishou(dst []byte, p *paramState, _ bool) []byte {
	for _, q := range p.params {
		dst = append(dst, q.name...)
		dst = append(dst, '=')
		dst = append(dst, q.value...)
		dst = append(dst, '&')
	}
	return append(dst, "signSecret="...)
}

// joinDoudian is five parameters in a fixed order; the body stands for
// param_json. The platform's calls to a merchant have no method and no v.
func joinDoudian(dst []byte, p *paramState, _ bool) []byte {
	for _, name := range [...]string{"app_key", "method", "param_json", "timestamp", "v"} {
		if name == "param_json" {
			dst = append(dst, name...)
			dst = append(dst, p.get(name)...) // in the query of a GET
			dst = append(dst, p.raw...)
		} else if p.has(name) {
			dst = append(dst, name...)
			dst = append(dst, p.get(name)...)
		}
	}
	return dst
}

// joinShopee is partner, path, time, then token and shop where the call has
// them. Of a shop, merchant and principal the widest one is signed.
func joinShopee(dst []byte, p *paramState, _ bool) []byte {
	dst = append(dst, p.get("partner_id")...)
	dst = append(dst, p.prefix...)
	dst = append(dst, p.get("timestamp")...)
	dst = append(dst, p.get("access_token")...)
	for _, name := range [...]string{"principal_id", "merchant_id", "shop_id"} {
		if owner := p.get(name); owner != "" {
			return append(dst, owner...)
		}
	}
	return dst
}

// tokenOfDoudian: the merchant's token is the only unsigned thing that the gate
// acts on. A path or a parameter that goes beside it makes no other call.
func tokenOfDoudian(h hash.Hash, c *Claim, _ *Request) {
	writeField(h, c.Token)
}

// restOfShopee is the call without the ways in which it can be written: the
// parameters decoded and sorted, and no signature among them. Their number says
// where the body begins.
func restOfShopee(h hash.Hash, c *Claim, r *Request) {
	params := c.state.params.params
	writeField(h, r.Method)
	writeField(h, r.Path)
	writeField(h, strconv.Itoa(len(params)))
	for _, q := range params {
		writeField(h, q.name)
		writeField(h, q.value)
	}
	h.Write(r.Body)
}

// param2 is the path by which aop1688 names an API and its app.
const param2 = "/param2/<version>/<namespace>/<api>/<appKey>"

// inspectParam2 reads aop1688's path, [<prefix>/]param2/<version>/<namespace>/
// <api>/<appKey>. Another path is the one of an authorize URL: it is not
// signed, and client_id names the app.
func inspectParam2(p *paramState, path string, c *Claim) error {
	i := strings.Index(path, "/param2/")
	if i < 0 {
		c.AppKey, c.Unnamed = p.get("client_id"), param2
		if c.AppKey == "" {
			return fmt.Errorf("%w: neither the path nor client_id names the app: call %s", ErrMalformed, param2)
		}
		return nil
	}
	p.prefix = path[i+1:]
	parts := strings.Split(p.prefix, "/")
	if len(parts) != 5 || slices.Contains(parts, "") {
		return fmt.Errorf("%w: the path must end in %s", ErrMalformed, param2)
	}
	c.APIVersion, c.APIName, c.AppKey = parts[1], parts[3], parts[4]
	return nil
}

// inspectDoudian refuses two values for param_json.
func inspectDoudian(p *paramState, _ string, _ *Claim) error {
	if len(p.raw) > 0 && p.has("param_json") {
		return fmt.Errorf("%w: param_json is in the query and in the body: send it in the body", ErrMalformed)
	}
	return nil
}

// scanDoudian refuses a param_json that parsers could read in two ways.
func scanDoudian(p *paramState) error {
	text := p.get("param_json") + string(p.raw)
	if strings.TrimSpace(text) == "" {
		return nil
	}
	_, err := scanMembers(text)
	return err
}

// inspectLazada: the path after the /rest of the endpoint is signed.
func inspectLazada(p *paramState, path string, c *Claim) error {
	c.Endpoint, p.prefix = cutRest(path)
	return nil
}

// inspectAliexpress: an API whose name is a path is signed with it; another
// one is a parameter already.
func inspectAliexpress(p *paramState, path string, c *Claim) error {
	name := p.get("method")
	if name == "" {
		c.Endpoint, name = cutRest(path)
	}
	if strings.Contains(name, "/") {
		p.prefix = name
	}
	return nil
}

func inspectShopee(p *paramState, path string, _ *Claim) error {
	p.prefix = path
	return nil
}

// cutRest cuts the endpoint's /rest off a path.
func cutRest(path string) (endpoint, rest string) {
	const restEndpoint = "/rest"
	if rest, ok := strings.CutPrefix(path, restEndpoint); ok && strings.HasPrefix(rest, "/") {
		return restEndpoint, rest
	}
	return "", path
}

// blank tells whether a value is empty or nothing but space, as Java's
// Character.isWhitespace sees it: the SDKs of top, jd and lazada do so.
func blank(value string) bool {
	for _, c := range value {
		switch {
		case '\t' <= c && c <= '\r', 0x1C <= c && c <= ' ':
		case c > 0xFF && c != '\u2007' && c != '\u202F' && unicode.IsSpace(c):
		default:
			return false
		}
	}
	return true
}
