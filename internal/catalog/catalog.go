// Package catalog reads API catalogs: OpenAPI 3.0 and 3.1 documents, in YAML
// or JSON, whose x-open-* extensions say how the platform serves each
// operation. The result is what the management service previews and applies.
//
// A catalog may come from a stranger. So its size, depth and number of values
// are bounded, YAML aliases are refused, and a $ref never leaves the document:
// nothing is read from disk or network. Every mistake is reported with its
// line, its JSON pointer and what to write instead, all of them in one pass.
package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// The bounds of one catalog file.
const (
	// maxSize is the largest file, in bytes.
	maxSize = 16 << 20
	// maxAPIs is the largest number of operations, those of topics included.
	maxAPIs = 10_000
	// maxOutput bounds the specs, schemas and examples of a file, in bytes. A $ref is
	// short and what it stands for is not, so the size of the file is no bound.
	maxOutput = 64 << 20
	// maxFollowed bounds the values that are read through references, each
	// time that they are.
	maxFollowed = 50_000_000
)

// Load reads the file at path and parses it. The catalog's source is the base
// name of path.
func Load(path string) (*platform.CatalogFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading catalog: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading catalog: %w", err)
	}
	return Parse(filepath.Base(path), data)
}

// Parse reads a catalog. Source is the short name that the catalog's APIs,
// topics and packages will belong to. A catalog with mistakes yields
// [platform.CatalogErrors].
func Parse(source string, data []byte) (*platform.CatalogFile, error) {
	root, errs := readDocument(source, data)
	if len(errs) > 0 {
		return nil, errs.Sorted()
	}
	p := &parser{
		source:    source,
		root:      root,
		positions: map[string]platform.Position{},
		refs:      map[string]*yaml.Node{},
		index:     map[*yaml.Node]map[string]*yaml.Node{},
		built:     map[*yaml.Node][]byte{},
		sizes:     map[*yaml.Node]int{},
	}
	p.document()
	if len(p.errs) > 0 {
		return nil, p.errs.Sorted()
	}
	digest := sha256.Sum256(data)
	file := &platform.CatalogFile{
		Source:    source,
		Digest:    hex.EncodeToString(digest[:]),
		Packages:  p.packages,
		Positions: p.positions,
	}
	for _, o := range p.operations {
		file.APIs = append(file.APIs, o.api)
		file.Positions["api "+o.api.ID()] = position(o.at.key, o.at.ptr)
	}
	for _, t := range p.topics {
		file.Topics = append(file.Topics, t.topic)
		file.Positions["topic "+t.topic.Name] = position(t.at.key, t.at.ptr)
	}
	return file, nil
}

// parser walks one document and collects what it finds and what is wrong.
type parser struct {
	source     string
	root       *yaml.Node
	operations []operation
	topics     []topic
	packages   []platform.Package
	// positions are those of the packages.
	positions map[string]platform.Position
	errs      platform.CatalogErrors

	// refs holds the references that were looked up; nil for a broken one.
	refs map[string]*yaml.Node
	// index finds the members of mappings that references pass through.
	index map[*yaml.Node]map[string]*yaml.Node
	// built holds the examples made from schemas; nil where there is none.
	built map[*yaml.Node][]byte
	// schemas are those of topics; nil before the first one.
	schemas *schemas
	// steps counts the schemas visited for examples, over the whole file.
	steps int
	// output counts the bytes of specs, schemas and examples.
	output int
	// sizes holds the number of values under the targets of references, and
	// followed how many were reached through references.
	sizes    map[*yaml.Node]int
	followed int
	// tooMany is set when there are more than maxAPIs operations.
	tooMany bool
}

// document reads the root and everything under it.
func (p *parser) document() {
	root := value{node: p.root}
	if !p.openAPIVersion(root) {
		return
	}
	p.checkRefs()
	base := p.settings(root, "the root", rootExtensions, settings{})
	base.version = p.info(root)
	p.packageList(root)

	paths, hasPaths := root.get("paths")
	webhooks, hasWebhooks := root.get("webhooks")
	if !hasPaths && !hasWebhooks {
		p.fail(root.node, "", "a paths object with at least one operation", "there are no paths")
	}
	if hasPaths && p.isMapping(paths) {
		p.settings(paths, "paths", nil, settings{})
		p.paths(paths, base)
	}
	if hasWebhooks && p.isMapping(webhooks) {
		p.settings(webhooks, "webhooks", nil, settings{})
		p.webhooks(webhooks, base)
	}
	p.checkNames()
	p.checkTopicNames()
	p.checkSchemas()
	p.checkConflicts()
}

// openAPIVersion tells whether the document is one that can be read.
func (p *parser) openAPIVersion(root value) bool {
	const want = "openapi: 3.1.0"
	v, ok := root.get("openapi")
	if !ok {
		if old, is := root.get("swagger"); is {
			p.fail(old.node, old.ptr, "the document converted to OpenAPI 3.1", "Swagger %s is too old", clip(old.node.Value))
			return false
		}
		p.fail(root.node, "", want, "there is no openapi version")
		return false
	}
	if s := v.node.Value; !strings.HasPrefix(s, "3.0.") && !strings.HasPrefix(s, "3.1.") {
		p.fail(v.node, v.ptr, "3.0.x or 3.1.x", "%q is no OpenAPI version that is understood", clip(s))
		return false
	}
	return true
}

// info returns the document's version, the default version of its APIs.
func (p *parser) info(root value) string {
	info, ok := root.get("info")
	if !ok {
		p.fail(root.node, "", "info with a title and a version", "there is no info")
		return ""
	}
	if !p.isMapping(info) {
		return ""
	}
	p.settings(info, "info", nil, settings{})
	v, ok := info.get("version")
	if !ok {
		p.fail(info.key, info.ptr, `version: "1.0"`, "there is no version")
		return ""
	}
	return p.version(v)
}

// packageList reads x-open-packages.
func (p *parser) packageList(root value) {
	list, ok := root.get("x-open-packages")
	if !ok {
		return
	}
	if list.node.Kind != yaml.SequenceNode {
		p.fail(list.node, list.ptr, "a list of {name, title, description}", "it is %s", kindOf(list.node))
		return
	}
	seen := map[string]int{}
	for item := range list.items() {
		if !p.isMapping(item) {
			continue
		}
		pkg := platform.Package{Source: p.source}
		for e := range item.entries() {
			switch e.key.Value {
			case "name":
				pkg.Name = p.packageName(e)
			case "title":
				pkg.Title = p.title(e)
			case "description":
				pkg.Description = p.text(e)
			default:
				p.fail(e.key, e.ptr, "name, title or description", "a package has no %q", clip(e.key.Value))
			}
		}
		if _, ok := item.get("name"); !ok {
			p.fail(item.node, item.ptr, "name: trade", "the package has no name")
			continue
		}
		if line, dup := seen[pkg.Name]; dup && pkg.Name != "" {
			p.fail(item.node, item.ptr, "each package once", "package %q is in line %d already", pkg.Name, line)
			continue
		}
		seen[pkg.Name] = item.node.Line
		p.packages = append(p.packages, pkg)
		p.positions["package "+pkg.Name] = position(item.node, item.ptr)
	}
}
