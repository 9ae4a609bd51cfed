package store

import (
	"embed"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// engine is what differs between databases. The SQL itself is plain: text and
// integers, `?` placeholders, ON CONFLICT and RETURNING.
type engine struct {
	dialect goose.Dialect
	// folder of the migrations.
	folder string
	// rebind turns `?` into the engine's placeholders; nil keeps them.
	rebind func(string) string
	// conflict tells whether err says that a row is there already, or that
	// another one refers to it or is missing.
	conflict func(error) bool
}
