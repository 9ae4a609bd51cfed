package catalog

import (
	"iter"
	"mime"
	"strconv"
	"strings"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// example finds the answer of an operation in the sandbox: that of the first
// success (2xx) with an example; else one made from a schema; else, where a
// success has no content, its status alone.
func (p *parser) example(op value) platform.Example {
	for _, source := range []func(value) []byte{p.written, p.generated} {
		for status, response := range p.successes(op) {
			content, _ := response.get("content")
			for media := range content.entries() {
				contentType, ok := p.contentType(media)
				if !ok {
					continue
				}
				if body := p.spend(func() []byte { return source(media) }, op); body != nil {
					return platform.Example{Status: status, ContentType: contentType, Body: body}
				}
			}
		}
	}
	for status, response := range p.successes(op) {
		if _, ok := response.get("content"); !ok {
			return platform.Example{Status: status}
		}
	}
	return platform.Example{}
}

// successes yields the 2xx responses of an operation in their order; 2XX
// stands for 200.
func (p *parser) successes(op value) iter.Seq2[int, value] {
	return func(yield func(int, value) bool) {
		responses, _ := op.get("responses")
		for r := range responses.entries() {
			status, err := strconv.Atoi(strings.Replace(r.key.Value, "XX", "00", 1))
			if err != nil || status < 200 || status > 299 {
				continue
			}
			if response, ok := p.deref(r); ok && !yield(status, response) {
				return
			}
		}
	}
}

// contentType is the type that an example is sent with.
func (p *parser) contentType(media value) (string, bool) {
	t, _, err := mime.ParseMediaType(media.key.Value)
	if err != nil || !strings.Contains(t, "/") {
		p.fail(media.key, media.ptr, "application/json", "%q is no media type", clip(media.key.Value))
		return "", false
	}
	if strings.Contains(t, "*") {
		return "application/json", true
	}
	return media.key.Value, true
}

func isJSON(media value) bool {
	t, _, _ := mime.ParseMediaType(media.key.Value)
	return strings.HasSuffix(t, "json") || strings.Contains(t, "*")
}

// written is the body that a media type gives as its example, or as the first
// of its examples; nil if it gives none.
func (p *parser) written(media value) []byte {
	example, ok := media.get("example")
	if !ok {
		examples, _ := media.get("examples")
		for e := range examples.entries() {
			if e, ok = p.deref(e); ok {
				if example, ok = e.get("value"); ok {
					break
				}
			}
		}
	}
	switch {
	case !ok:
		return nil
	case isJSON(media):
		return appendJSON(nil, example.node)
	case example.node.Value != "":
		return []byte(example.node.Value)
	}
	return nil
}

// generated is a body made from the schema of a JSON media type; nil if the
// schema gives none.
func (p *parser) generated(media value) []byte {
	schema, ok := media.get("schema")
	if !ok || !isJSON(media) {
		return nil
	}
	if schema, ok = p.deref(schema); !ok {
		return nil
	}
	if body, done := p.built[schema.node]; done {
		return body
	}
	g := generator{p: p}
	body, ok := g.value(nil, schema)
	if !ok {
		body = nil
	}
	p.built[schema.node] = body
	return body
}
