package adminapitest

import (
	"bytes"
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/caddymodule/adminapi"
	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/oauth"
	"github.com/caddy-openplatform/openplatform/internal/platform"
	"github.com/caddy-openplatform/openplatform/internal/store"
	"github.com/caddy-openplatform/openplatform/pusher"
)

// Catalog is an OpenAPI file with the package trade, the APIs product.list and
// trade.order.get, and the topics trade.order.created and product.changed.
const Catalog = `openapi: 3.1.0
info: {title: Mall, version: "1.0"}
x-open-upstream: 127.0.0.1:8181
x-open-packages:
  - {name: trade, title: 交易}
paths:
  /v1/products:
    get:
      x-open-name: product.list
      summary: 商品列表
      responses: {"200": {description: ok, content: {application/json: {example: {items: []}}}}}
  /v1/orders/{order_id}:
    get:
      x-open-name: trade.order.get
      x-open-package: trade
      summary: 订单详情
      parameters: [{name: order_id, in: path, required: true, schema: {type: string}}]
      responses: {"200": {description: ok, content: {application/json: {example: {id: "1001"}}}}}
webhooks:
  orderCreated:
    post:
      x-open-topic: trade.order.created
      x-open-package: trade
      summary: 订单创建
      description: An order was made.
      requestBody: {content: {application/json: {schema: {type: object, required: [order_id], properties: {order_id: {type: string}}}, example: {order_id: "1001"}}}}
  productChanged:
    post: {x-open-topic: product.changed, x-open-user-token: false, summary: 商品变更}
`

// Now is the time at which everything happens.
func Now() time.Time { return time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC) }

// Platform is the management of a real service over a store of its own.
type Platform struct {
	// Closed is set while the store is to be not open yet.
	Closed bool
	// Report is what Status answers.
	Report adminapi.StatusReport
	// Condition is what Health answers.
	Condition adminapi.HealthReport
	// Asked is what Challenge does; nil passes.
	Asked func(*platform.Subscriber, *platform.Subscription) error
	// Rotate is what RotateMasterKey does.
	Rotate func(ctx context.Context, progress func(done, total int)) error

	service *platform.Service
	store   *store.Store
}

func newPlatform(t *testing.T) *Platform {
	t.Helper()
	keys, err := store.NewKeyring(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "open.db"), keys, store.Options{Now: Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	random := rand.NewChaCha8([32]byte{1})
	return &Platform{store: s, service: platform.NewService(platform.ServiceOptions{
		Store: s, Now: Now, Rand: random, AllowHTTP: func(host string) bool { return host == "127.0.0.1" },
	})}
}

// Service is the service, or nil while the store is closed.
func (p *Platform) Service() *platform.Service {
	if p.Closed {
		return nil
	}
	return p.service
}

// Authorize makes the user's grant for the app, with an access token and a
// refresh token of those values.
func (p *Platform) Authorize(t *testing.T, userRef, appRef, access, refresh string) *platform.Grant {
	t.Helper()
	u, err := p.service.User(t.Context(), userRef)
	require.NoError(t, err)
	a, err := p.service.App(t.Context(), appRef)
	require.NoError(t, err)
	g := &platform.Grant{
		User: u.ID, App: a.ID, AppNumber: a.Number, Environment: platform.Production, Scopes: []string{"trade"},
		CreatedAt: Now(), ExpiresAt: Now().Add(oauth.RefreshTokenLifetime),
	}
	token := oauth.Token{
		Family: oauth.Family("fam_" + access), App: a.Number, Environment: g.Environment, User: u.ID, Scopes: g.Scopes,
		IssuedAt: Now(), ExpiresAt: Now().Add(oauth.AccessTokenLifetime),
	}
	code := &oauth.Code{Hash: oauth.HashOf("oc_" + access), Family: token.Family, App: a.Number, Environment: g.Environment, User: u.ID, IssuedAt: Now(), ExpiresAt: Now()}
	require.NoError(t, p.store.Authorize(t.Context(), g, code))
	token.Grant = g.ID
	first, second := token, token
	first.Hash, first.Kind = oauth.HashOf(access), oauth.AccessToken
	second.Hash, second.Kind, second.ExpiresAt = oauth.HashOf(refresh), oauth.RefreshToken, g.ExpiresAt
	require.NoError(t, p.store.SaveTokens(t.Context(), &first, &second))
	return g
}

// PreviewCatalog tells what ApplyCatalog would change.
func (p *Platform) PreviewCatalog(ctx context.Context, source string, data []byte) (*platform.CatalogDiff, error) {
	f, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return p.service.PreviewCatalog(ctx, *f)
}

// ApplyCatalog reads an OpenAPI file and applies it.
func (p *Platform) ApplyCatalog(ctx context.Context, actor, source string, data []byte) (*platform.CatalogDiff, error) {
	f, err := catalog.Parse(source, data)
	if err != nil {
		return nil, err
	}
	return p.service.ApplyCatalog(ctx, actor, *f)
}

// Challenge does what Asked says.
func (p *Platform) Challenge(_ context.Context, s *platform.Subscriber, sub *platform.Subscription) error {
	if p.Asked == nil {
		return nil
	}
	return p.Asked(s, sub)
}

// RotateMasterKey does what Rotate says.
func (p *Platform) RotateMasterKey(ctx context.Context, _ string, progress func(done, total int)) error {
	return p.Rotate(ctx, progress)
}

// StartLink makes a link with made-up secrets.
func (p *Platform) StartLink(ctx context.Context, ref string, o oauth.StartOptions) (*adminapi.StartLink, error) {
	app, err := p.service.App(ctx, ref)
	if err != nil {
		return nil, err
	}
	address, until, err := oauth.StartURL(rand.NewChaCha8([32]byte{2}), [][]byte{make([]byte, 32)}, app, o, Now())
	if err != nil {
		return nil, err
	}
	return &adminapi.StartLink{URL: address, AppKey: app.Key, Environment: cmp.Or(o.Environment, platform.Production), ExpiresAt: until}, nil
}

// Status is the Report.
func (p *Platform) Status(context.Context) adminapi.StatusReport { return p.Report }

// Health answers Condition.
func (p *Platform) Health() adminapi.HealthReport { return p.Condition }

// Messages manages the messages of the store. Nothing pushes them.
func (p *Platform) Messages() *pusher.Manager {
	return &pusher.Manager{Store: p.store, Directory: p.service, Rand: cryptorand.Reader, Now: Now}
}

// Publish makes a message of the subscription's first topic with a delivery that
// waits, and returns their IDs.
func (p *Platform) Publish(t *testing.T, subscription string) (message, delivery string) {
	t.Helper()
	sub, err := p.service.Subscription(t.Context(), subscription)
	require.NoError(t, err)
	m := pusher.Message{
		ID: pusher.MessageID{At: Now().UnixMicro(), ID: 1}, Environment: sub.Environment, Topic: sub.Topics[0], User: "usr_1", Data: []byte(`{}`),
	}
	results, err := p.store.Publish(t.Context(), []pusher.Batch{{{Message: m, Deliveries: []pusher.NewDelivery{
		{Subscription: sub.Number, App: sub.AppNumber, Body: []byte(`{}`)},
	}}}})
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	records, err := p.store.Deliveries(t.Context(), pusher.Filter{Message: m.ID}, pusher.Cursor{}, 1)
	require.NoError(t, err)
	return m.ID.String(), records[0].ID.String()
}

// PushStats are those of a pusher that did nothing.
func (p *Platform) PushStats() pusher.Stats { return pusher.Stats{} }

// Store is where messages can be put without a pusher.
func (p *Platform) Store() pusher.Store { return p.store }

// Interface guard
var _ adminapi.Management = (*Platform)(nil)
