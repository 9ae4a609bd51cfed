package caddymodule

import (
	"context"
	"fmt"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// Challenge asks the endpoint of a subscription to show that it can read what
// is pushed to it.
func (a *App) Challenge(context.Context, *platform.Subscriber, *platform.Subscription) error {
	return fmt.Errorf("push is not set up: %w", platform.ErrUnavailable)
}
