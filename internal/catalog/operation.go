package catalog

import (
	"iter"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// operation is an API and the place where it stands.
type operation struct {
	api platform.API
	at  value
	// item is the path item that it belongs to.
	item value
	// shared are the parameters of the path item.
	shared value
	// segments are those of the path; a callout has none.
	segments []string
}

// methods are the fixed fields of a path item that hold operations, and
// pathFields are the others. TRACE is no call of an API.
var (
	methods    = []string{"get", "put", "post", "delete", "options", "head", "patch"}
	pathFields = []string{"$ref", "summary", "description", "servers", "parameters"}
)

// paths reads the operations that apps call.
func (p *parser) paths(paths value, base settings) {
	for item := range paths.entries() {
		if strings.HasPrefix(item.key.Value, "x-") {
			continue
		}
		segments, ok := p.template(item)
		if !ok {
			continue
		}
		for o, s := range p.pathItem(item, base, pathExtensions, operationExtensions) {
			p.provider(s, platform.ByPlatform, "platform here, or the callout under webhooks")
			o.api.Path, o.api.Provider, o.segments = item.key.Value, platform.ByPlatform, segments
			p.checkParameters(o)
			p.add(o, s)
		}
	}
}

// webhooks reads the callouts, which merchants serve and the platform calls, and
// the topics of messages, which apps subscribe to.
func (p *parser) webhooks(webhooks value, base settings) {
	base = settings{version: base.version, pkg: base.pkg}
	for item := range webhooks.entries() {
		if strings.HasPrefix(item.key.Value, "x-") {
			continue
		}
		for o, s := range p.pathItem(item, base, webhookExtensions, webhookOperationExtensions) {
			if len(o.given("x-open-topic")) > 0 {
				p.addTopic(o, s)
				continue
			}
			p.misplaced(o, "a callout needs no merchant's authorization", "x-open-user-token")
			p.provider(s, platform.ByMerchant, "merchant here, or the operation under paths")
			o.api.Provider = platform.ByMerchant
			p.add(o, s)
		}
	}
}

// provider checks an explicit x-open-provider.
func (p *parser) provider(s settings, is platform.Provider, want string) {
	if v := s.provider; v.node != nil && v.node.Value != string(is) {
		p.fail(v.node, v.ptr, want, "the provider cannot be %q", clip(v.node.Value))
	}
}

// pathItem yields the operations of a path or webhook, with their settings.
func (p *parser) pathItem(item value, base settings, allowed, opAllowed []string) iter.Seq2[operation, settings] {
	return func(yield func(operation, settings) bool) {
		if refOf(item.node) != nil && len(item.node.Content) > 2 {
			p.fail(item.key, item.ptr, "the $ref alone", "there is a $ref and something beside it")
			return
		}
		item, ok := p.deref(item)
		if !ok || !p.isMapping(item) {
			return
		}
		s := p.settings(item, "a path", allowed, base)
		shared, _ := item.get("parameters")
		for e := range item.entries() {
			switch method := e.key.Value; {
			case slices.Contains(methods, method):
				o := operation{at: e, item: item, shared: shared, api: platform.API{Method: strings.ToUpper(method), Source: p.source}}
				if p.isMapping(e) && !yield(o, p.settings(e, "an operation", opAllowed, s)) {
					return
				}
			case slices.Contains(pathFields, method), strings.HasPrefix(method, "x-"):
			default:
				p.fail(e.key, e.ptr, strings.Join(methods, ", "), "a path has no %q", clip(method))
			}
		}
	}
}

// room tells whether one more operation is read.
func (p *parser) room(o operation) bool {
	if len(p.operations)+len(p.topics) < maxAPIs {
		return true
	}
	if !p.tooMany {
		p.fail(o.at.key, o.at.ptr, "the catalog split into several files", "there are more than %d operations", maxAPIs)
	}
	p.tooMany = true
	return false
}

// add completes the API of an operation.
func (p *parser) add(o operation, s settings) {
	if !p.room(o) {
		return
	}
	if v, ok := o.at.get("summary"); ok {
		o.api.Title = p.title(v)
	}
	o.api.Name = p.operationName(o.at, s)
	o.api.Version = s.version
	o.api.Package = s.pkg
	if s.pkg == "" {
		o.api.Package = platform.BasicPackage
	}
	o.api.Status, o.api.Sunset = p.life(o.at, s)
	o.api.UserToken = s.userToken
	o.api.Upstream = s.upstream
	o.api.Limits = s.limits
	p.checkResponses(o.at)
	o.api.Example = p.example(o.at)
	o.api.Spec = p.spend(func() []byte { return appendJSON(nil, o.at.node) }, o.at)
	p.operations = append(p.operations, o)
}

// operationName is x-open-name, or the operationId if that is such a name.
func (p *parser) operationName(op value, s settings) string {
	if _, explicit := op.get("x-open-name"); explicit {
		return s.name
	}
	id, ok := op.get("operationId")
	if ok && id.node.Kind == yaml.ScalarNode && isAPIName(id.node.Value) {
		return id.node.Value
	}
	const want = "x-open-name: trade.order.get"
	if ok {
		p.fail(op.key, op.ptr, want, "the API has no name: its operationId %q is not words joined by dots", clip(id.node.Value))
	} else {
		p.fail(op.key, op.ptr, want, "the API has no name")
	}
	return ""
}

// life joins OpenAPI's own deprecated with x-open-status and checks the sunset.
// Without a status the API keeps the one that it has in the store.
func (p *parser) life(op value, s settings) (platform.APIStatus, time.Time) {
	status, explicit := op.get("x-open-status")
	if v, ok := op.get("deprecated"); ok && p.boolean(v) {
		if explicit && s.status != platform.Deprecated && s.status != "" {
			p.fail(status.node, status.ptr, "x-open-status: deprecated, or no deprecated: true",
				"the operation is deprecated and %s at once", s.status)
		}
		s.status = platform.Deprecated
	}
	if s.status == platform.Deprecated || s.status == platform.Offline {
		return s.status, s.sunset
	}
	if v, ok := op.get("x-open-sunset"); ok {
		p.fail(v.node, v.ptr, "deprecated: true beside it", "an API that is not deprecated has no sunset")
	}
	return s.status, time.Time{}
}

// checkResponses checks the shape of an operation's responses.
func (p *parser) checkResponses(op value) {
	responses, ok := op.get("responses")
	if !ok || !p.isMapping(responses) {
		return
	}
	for r := range responses.entries() {
		code := r.key.Value
		switch {
		case code == "default", strings.HasPrefix(code, "x-"):
		case len(code) == 3 && code[0] >= '1' && code[0] <= '5' &&
			(code[1:] == "XX" || isDigit(code[1]) && isDigit(code[2])):
			p.isMapping(r)
		default:
			p.fail(r.key, r.ptr, `a status as "200" or "4XX", or default`, "%q is no status", clip(code))
		}
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// spend makes a spec, a schema or an example within the bound of the file.
func (p *parser) spend(build func() []byte, at value) []byte {
	if p.output > maxOutput {
		return nil
	}
	b := build()
	if p.output += len(b); p.output > maxOutput {
		p.fail(at.key, at.ptr, "the catalog split into several files, or shorter examples",
			"specs, schemas and examples take more than %d MiB", maxOutput>>20)
	}
	return b
}

// checkNames reports two APIs of one name and version, as the gate compares
// versions.
func (p *parser) checkNames() {
	seen := make(map[string]operation, len(p.operations))
	for _, o := range p.operations {
		if o.api.Name == "" || o.api.Version == "" {
			continue
		}
		id := o.api.Name + "@" + platform.PlainVersion(o.api.Version)
		if first, dup := seen[id]; dup {
			same := ""
			if o.api.Version != first.api.Version {
				same = ", and " + o.api.Version + " is the same version"
			}
			p.fail(o.at.key, o.at.ptr, "another x-open-name or x-open-version", "%s is at line %d (%s) already%s",
				first.api.ID(), first.at.key.Line, first.at.ptr, same)
			continue
		}
		seen[id] = o
	}
}
