package oauth_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes sure that nothing of the platform runs on when Caddy has
// stopped. What is left out runs as long as a process with Caddy in it does.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Caddy cleans its certificate storage on its own.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.CleanStorage"),
	)
}
