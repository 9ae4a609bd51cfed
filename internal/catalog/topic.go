package catalog

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// topic is a kind of message and the place where it stands.
type topic struct {
	topic platform.Topic
	at    value
}

// addTopic completes the topic of a webhook: the platform posts a message, and
// the app that subscribed answers.
func (p *parser) addTopic(o operation, s settings) {
	if !p.room(o) {
		return
	}
	if o.api.Method != http.MethodPost {
		p.fail(o.at.key, o.at.ptr, "post", "a message is posted, and not sent by %s", o.at.key.Value)
	}
	p.provider(s, platform.ByPlatform, "platform, or no x-open-topic")
	p.misplaced(o, "a topic's name is its x-open-topic", "x-open-name")
	p.misplaced(o, "a topic has no version", "x-open-version")
	p.misplaced(o, "a topic has no sunset", "x-open-sunset")
	t := platform.Topic{Name: s.topic, Package: s.pkg, UserToken: true, Source: p.source}
	if s.pkg == "" {
		t.Package = platform.BasicPackage
	}
	if len(o.given("x-open-user-token")) > 0 {
		t.UserToken = s.userToken
	}
	if v, ok := o.at.get("summary"); ok {
		t.Title = p.title(v)
	}
	if v, ok := o.at.get("description"); ok {
		t.Description = p.description(v)
	}
	t.Status, _ = p.life(o.at, s)
	p.checkResponses(o.at)
	p.message(o.at, &t)
	t.Spec = p.spend(func() []byte { return appendJSON(nil, o.at.node) }, o.at)
	p.topics = append(p.topics, topic{t, o.at})
}

// given are the places, the path or the operation, that have the extension.
func (o *operation) given(extension string) (places []value) {
	for _, at := range []value{o.item, o.at} {
		if v, ok := at.get(extension); ok {
			places = append(places, v)
		}
	}
	return places
}

// misplaced reports an extension that the operation cannot have.
func (p *parser) misplaced(o operation, why, extension string) {
	for _, v := range o.given(extension) {
		p.fail(v.key, v.ptr, "no "+extension, "%s", why)
	}
}

// message reads what a message holds: the JSON of the request's body.
func (p *parser) message(op value, t *platform.Topic) {
	body, ok := op.get("requestBody")
	if !ok {
		return
	}
	if body, ok = p.deref(body); !ok || !p.isMapping(body) {
		return
	}
	content, ok := body.get("content")
	if !ok || !p.isMapping(content) {
		return
	}
	for media := range content.entries() {
		if _, ok := p.contentType(media); !ok || !isJSON(media) {
			continue
		}
		if schema, ok := media.get("schema"); ok {
			if p.schemas == nil {
				p.schemas = newSchemas(p)
			}
			t.Schema = p.spend(func() []byte { return p.schemas.bundle(schema) }, media)
		}
		if t.Example = p.spend(func() []byte { return p.written(media) }, media); t.Example == nil {
			t.Example = p.spend(func() []byte { return p.generated(media) }, media)
		}
		return
	}
	p.fail(content.key, content.ptr, "application/json", "a message is JSON, and there is none")
}

// topicName reads the name of a topic.
func (p *parser) topicName(v value) string {
	s := p.text(v)
	if v.node.Kind == yaml.ScalarNode && !isAPIName(s) {
		p.fail(v.node, v.ptr, "words joined by dots, as trade.order.created", "%q is no topic name", clip(s))
		return ""
	}
	return s
}

// description reads a text that the platform keeps.
func (p *parser) description(v value) string {
	const most = 2000
	s := strings.TrimSpace(p.text(v))
	if utf8.RuneCountInString(s) > most || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		p.fail(v.node, v.ptr, fmt.Sprintf("at most %d characters, without control characters", most), "%q is no description", clip(s))
		return ""
	}
	return s
}

// checkTopicNames reports two topics of one name.
func (p *parser) checkTopicNames() {
	seen := make(map[string]topic, len(p.topics))
	for _, t := range p.topics {
		if first, dup := seen[t.topic.Name]; dup {
			p.fail(t.at.key, t.at.ptr, "another x-open-topic", "the topic %s is at line %d (%s) already", t.topic.Name, first.at.key.Line, first.at.ptr)
			continue
		}
		seen[t.topic.Name] = t
	}
}
