package store

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (r *reader) loadTopics(ctx context.Context, c *platform.Catalog) error {
	return r.each(ctx, func(rows *sql.Rows) error {
		var t platform.Topic
		var schema, example, spec []byte
		err := rows.Scan(&t.Name, &t.Title, &t.Description, &t.Package, &t.UserToken, &t.Status, &schema, &example, &spec, &t.Source)
		t.Schema, t.Example, t.Spec = json.RawMessage(schema), json.RawMessage(example), json.RawMessage(spec)
		c.Topics = append(c.Topics, t)
		return err
	}, `SELECT name, title, description, package, user_token, status, schema, example, spec, source FROM topics ORDER BY name`)
}

// PutTopic writes a topic. Its package must exist.
func (t *tx) PutTopic(ctx context.Context, topic *platform.Topic) error {
	_, err := t.exec(ctx, `INSERT INTO topics (name, title, description, package, user_token, status, schema, example, spec, source)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET title = excluded.title, description = excluded.description, package = excluded.package,
			user_token = excluded.user_token, status = excluded.status, schema = excluded.schema, example = excluded.example,
			spec = excluded.spec, source = excluded.source`,
		topic.Name, topic.Title, topic.Description, topic.Package, topic.UserToken, topic.Status,
		orNull(string(topic.Schema)), orNull(string(topic.Example)), orNull(string(topic.Spec)), topic.Source)
	return named(err, "topic %q with package %q", topic.Name, topic.Package)
}
