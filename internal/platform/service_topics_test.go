package platform_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// topic is a topic of the file mall, in the package trade.
func topic(name string) platform.Topic {
	return platform.Topic{Name: name, Package: "trade", UserToken: true, Source: "mall", Schema: json.RawMessage(`{"type": "object"}`)}
}

// withTopics is a catalog file with the package trade and the topics.
func withTopics(digest string, topics ...platform.Topic) platform.CatalogFile {
	f := file(digest)
	f.Topics = topics
	return f
}

func TestApplyTopics(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	created, paid := topic("order.created"), topic("order.paid")
	paid.Status = platform.Draft
	d := f.apply(t, withTopics("1", created, paid))
	require.Equal(t, []string{"add package trade", "add topic order.created", "add topic order.paid"}, summary(d))
	require.Equal(t, []platform.Change{{Kind: platform.ChangeCatalog}}, f.changes)
	require.Contains(t, string(f.entries(t)[0].After), `"topic order.paid"`)
	got, err := f.Topic(ctx, "order.created")
	require.NoError(t, err)
	created.Status = platform.Online
	require.Equal(t, &created, got)

	// The same file again is nothing; another one with the same topics neither.
	require.Equal(t, 3, f.apply(t, withTopics("1", created, paid)).Unchanged)
	d = f.apply(t, withTopics("2", topic("order.created"), paid))
	require.Empty(t, d.Changes)
	require.Equal(t, 3, d.Unchanged)

	// What a file no longer has goes offline, and comes back with its word.
	created = topic("order.created")
	created.UserToken, created.Title = false, "订单创建"
	require.Equal(t, []string{"change topic order.created title,user_token", "offline topic order.paid status"}, summary(f.apply(t, withTopics("3", created))))
	got, err = f.Topic(ctx, "order.paid")
	require.NoError(t, err)
	require.Equal(t, platform.Offline, got.Status)
	require.Empty(t, f.apply(t, withTopics("4", created)).Changes)
	paid.Status = ""
	require.Empty(t, f.apply(t, withTopics("5", created, paid)).Changes, "without a word it stays what it is")
	paid.Status = platform.Online
	require.Equal(t, []string{"change topic order.paid status"}, summary(f.apply(t, withTopics("6", created, paid))))

	// A topic belongs to one file, and to a package.
	other := platform.CatalogFile{Source: "other", Digest: "1", Topics: []platform.Topic{{Name: "order.paid", Package: "basic", Source: "other"}}}
	_, err = f.ApplyCatalog(ctx, "test", other)
	require.ErrorIs(t, err, platform.ErrConflict)
	require.ErrorContains(t, err, "topic order.paid of other is declared in mall already")
	require.ErrorIs(t, f.DeletePackage(ctx, "test", "trade"), platform.ErrConflict)
}

func TestTopicMistakes(t *testing.T) {
	f := newFixture(t)
	with := func(change func(*platform.Topic)) platform.CatalogFile {
		one := topic("order.created")
		change(&one)
		return withTopics("1", one)
	}
	for field, bad := range map[string]platform.CatalogFile{
		"topics[0].name":            with(func(o *platform.Topic) { o.Name = "order created" }),
		"order.created.package":     with(func(o *platform.Topic) { o.Package = "nope" }),
		"order.created.status":      with(func(o *platform.Topic) { o.Status = "live" }),
		"order.created.schema":      with(func(o *platform.Topic) { o.Schema = json.RawMessage(`{`) }),
		"order.created.example":     with(func(o *platform.Topic) { o.Example = json.RawMessage("\"\x00\"") }),
		"order.created.title":       with(func(o *platform.Topic) { o.Title = "\x1b" }),
		"order.created.description": with(func(o *platform.Topic) { o.Description = "\xff" }),
		"order.created.source":      with(func(o *platform.Topic) { o.Source = "x" }),
		"order.created.name":        withTopics("1", topic("order.created"), topic("order.created")),
	} {
		_, err := f.ApplyCatalog(t.Context(), "test", bad)
		requireField(t, err, field)
	}
	require.Empty(t, f.entries(t))
}

func TestTopics(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	created, paid := topic("order.created"), topic("order.paid")
	paid.Package, paid.Title = "basic", "Bezahlt"
	f.apply(t, withTopics("1", created, paid))
	for _, c := range []struct {
		filter platform.TopicFilter
		names  []string
	}{
		{platform.TopicFilter{}, []string{"order.created", "order.paid"}},
		{platform.TopicFilter{Package: "basic"}, []string{"order.paid"}},
		{platform.TopicFilter{Text: "BEZAHLT"}, []string{"order.paid"}},
		{platform.TopicFilter{Status: platform.Offline}, nil},
	} {
		list, err := f.Topics(ctx, c.filter)
		require.NoError(t, err)
		var names []string
		for _, one := range list {
			names = append(names, one.Name)
		}
		require.Equal(t, c.names, names)
	}
	_, err := f.Topics(ctx, platform.TopicFilter{Status: "live"})
	requireField(t, err, "status")

	f.changes = nil
	off, err := f.SetTopicStatus(ctx, "test", "order.paid", platform.Offline)
	require.NoError(t, err)
	require.Equal(t, platform.Offline, off.Status)
	require.Equal(t, []platform.Change{{Kind: platform.ChangeCatalog}}, f.changes)
	e := f.entries(t)[0]
	require.Equal(t, []string{"topic.offline", "order.paid", `{"status":"online"}`, `{"status":"offline"}`}, []string{e.Action, e.Target, string(e.Before), string(e.After)})
	_, err = f.SetTopicStatus(ctx, "test", "order.paid", "gone")
	requireField(t, err, "status")
	_, err = f.SetTopicStatus(ctx, "test", "nope", platform.Online)
	require.ErrorIs(t, err, platform.ErrNotFound)
	_, err = f.Topic(ctx, "nope")
	require.ErrorIs(t, err, platform.ErrNotFound)
}
