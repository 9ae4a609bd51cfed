package catalog

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// position is where node n stands, whose pointer is ptr.
func position(n *yaml.Node, ptr string) platform.Position {
	return platform.Position{Line: n.Line, Column: n.Column, Pointer: ptr}
}

// fail collects a mistake at node n, whose pointer is ptr.
func (p *parser) fail(n *yaml.Node, ptr, want, format string, args ...any) {
	p.errs.Add(&platform.CatalogError{Source: p.source, Position: position(n, ptr), Problem: fmt.Sprintf(format, args...), Want: want})
}

// clip shortens what a user wrote to a length that an error can carry.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
