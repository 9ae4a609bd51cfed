package command

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi/adminapitest"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// TestExampleIDs: who tries an ID of an example is told that there is no such
// message, not that it is no ID.
func TestExampleIDs(t *testing.T) {
	texts := map[string]string{}
	require.NoError(t, filepath.WalkDir("../../docs", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Clean(path))
		texts[path] = string(text)
		return err
	}))
	root := &cobra.Command{Use: "open-platform"}
	newCLI().attach(root)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		texts[cmd.CommandPath()] = cmd.Long + cmd.Example + cmd.Flags().FlagUsages()
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
	found := 0
	for where, text := range texts {
		for _, id := range regexp.MustCompile(`\b(?:msg|dlv)_[0-9A-Za-z]+…?`).FindAllString(text, -1) {
			if strings.HasSuffix(id, "…") {
				continue // it is not there in full
			}
			_, noMessage := pusher.ParseMessageID(id)
			_, noDelivery := pusher.ParseDeliveryID(id)
			require.False(t, noMessage != nil && noDelivery != nil, "%s: %s is no ID", where, id)
			found++
		}
	}
	require.Greater(t, found, 10)
}

// TestNoID: what is no ID is the mistake of who wrote it.
func TestNoID(t *testing.T) {
	_, addr := admin(t)
	for _, args := range [][]string{
		{"delivery", "show", "foo"},
		{"delivery", "push", "dlv_" + strings.Repeat("v", 26)},
		{"delivery", "list", "--message", "foo"},
		{"message", "show", "dlv_0036cm8627ac00000000000008"},
	} {
		r := run(t, addr, args...)
		require.Equal(t, 2, r.code, "%s: %s%s", args, r.stdout, r.stderr)
		require.Contains(t, r.stderr, "is none; want", args)
	}
	run(t, addr, "delivery", "show", "dlv_0036cm8627ac00000000000008").failed(t, "not found")
}

// newDelivery is an admin endpoint with an app, its subscription, and a delivery
// that waits.
func newDelivery(t *testing.T) (s *adminapitest.Server, addr, app, sub, delivery string) {
	t.Helper()
	s, addr, app = shop(t)
	out := run(t, addr, "subscription", "create", "--app", app, "--url", "https://erp.example.com/push", "--topic", "trade.order.created", "--json").ok(t)
	var made adminapi.SubscriptionWithKeys
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	_, delivery = s.Platform.Publish(t, made.Subscription.ID)
	return s, addr, app, made.Subscription.ID, delivery
}

// TestDeliveryShow: what the endpoint said tells why it failed.
func TestDeliveryShow(t *testing.T) {
	s, addr, _, sub, delivery := newDelivery(t)
	run(t, addr, "subscription", "verify", sub).ok(t)
	store := s.Platform.Store()
	found, err := s.Platform.Service().Subscription(t.Context(), sub)
	require.NoError(t, err)
	r, err := store.Claim(t.Context(), pusher.Claim{Node: "n1", Lease: time.Minute, Endpoints: []pusher.Endpoint{{Subscription: found.Number, Room: 1, Concurrency: 1}}})
	require.NoError(t, err)
	require.Len(t, r.Work, 1)
	_, err = store.Complete(t.Context(), []pusher.Completion{{
		ID: r.Work[0].ID, Subscription: found.Number, Fence: r.Work[0].Fence, State: pusher.Failed, Attempt: &pusher.Attempt{
			Number: 1, Started: adminapitest.Now(), Status: 500, Class: pusher.ClassStatus, Error: "answered 500 Internal Server Error",
			Response: []byte("no such\norder" + strings.Repeat("x", 4000)), Node: "n1",
		},
	}})
	require.NoError(t, err)
	out := run(t, addr, "delivery", "show", delivery).ok(t)
	require.Contains(t, out, "answered 500 Internal Server Error")
	require.Contains(t, out, "no such orderxxx")
	require.NotContains(t, out, strings.Repeat("x", 200))
	require.Contains(t, run(t, addr, "delivery", "show", delivery, "--json").ok(t), strings.Repeat("x", 4000))
}

// TestJobFilter: a job tells what it was asked to push again.
func TestJobFilter(t *testing.T) {
	_, addr, app, sub, _ := newDelivery(t)
	out := run(t, addr, "push", "manual", "--app", app, "--subscription", sub, "--topic", "trade.order.created", "--state", "failed,cancelled",
		"--since", "2027-01-31T07:00:00Z", "--until", "2027-01-31T09:00:00Z", "--detach", "--json").ok(t)
	var job adminapi.Job
	require.NoError(t, json.Unmarshal([]byte(out), &job))
	at := adminapitest.Now()
	require.Equal(t, pusher.Query{
		App: app, Subscription: sub, Topic: "trade.order.created", States: []string{"failed", "cancelled"}, Since: at.Add(-time.Hour), Until: at.Add(time.Hour),
	}, job.Query)
	shown := run(t, addr, "push", "job", job.ID, "--detach").ok(t)
	for _, line := range []string{
		"app: +" + app, "subscription: +" + sub, "topic: +trade.order.created", "states: +failed cancelled", "since: +2027-01-31 07:00:00Z", "until: +2027-01-31 09:00:00Z",
	} {
		require.Regexp(t, "(?m)^"+line+"$", shown)
	}
	require.Contains(t, run(t, addr, "push", "jobs").ok(t), "app "+app+", subscription "+sub+", topic trade.order.created, states failed cancelled, since 2027-01-31 07:00:00Z, until")
}
