package limit

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"
)

//go:embed nodes.lua
var nodesSource string

var nodesScript = newScript(nodesSource)

// beatEvery is how often a node says that it lives.
const beatEvery = 2 * time.Second

// nodes is the list of all nodes, as this one knows it.
type nodes struct {
	id    string
	known atomic.Int64 // at least 1
}

func newNodes(rand io.Reader) (*nodes, error) {
	var id [8]byte
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return nil, fmt.Errorf("naming this node: %w", err)
	}
	n := &nodes{id: hex.EncodeToString(id[:])}
	n.known.Store(1)
	return n, nil
}

func (r *Redis) nodesKey() string { return r.options.Prefix + "{nodes}" }

// beat tells the others that this node lives, and counts them.
func (r *Redis) beat(ctx context.Context) error {
	reply, err := r.call(ctx, nodesScript, r.nodesKey(), []byte(r.nodes.id))
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(reply, 10, 64)
	if err != nil {
		return fmt.Errorf("counting nodes: %w", errReply)
	}
	r.nodes.known.Store(max(n, 1))
	return nil
}

// leave takes this node off the list.
func (r *Redis) leave(ctx context.Context) {
	_ = r.client.ZRem(ctx, r.nodesKey(), r.nodes.id).Err() // it will time out otherwise
}
