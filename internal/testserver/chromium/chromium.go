// Package chromium starts Chromium for tests of pages.
package chromium

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// starts is how often it is tried: in containers Chromium crashes now and then
// before it has begun.
const starts = 3

// New starts a browser with an empty tab, in the language, in a window of the
// width. It takes any certificate, and asks nothing of the world, whatever pages
// want to load. It lives for as long as the test, or the timeout.
func New(t *testing.T, timeout time.Duration, language string, width int) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.IgnoreCertErrors, chromedp.Flag("lang", language), chromedp.WindowSize(width, 844),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	for try := 1; ; try++ {
		browser, stop := chromedp.NewExecAllocator(ctx, options...)
		tab, closeTab := chromedp.NewContext(browser)
		err := chromedp.Run(tab)
		if err == nil {
			t.Cleanup(stop)
			t.Cleanup(closeTab)
			return tab
		}
		closeTab()
		stop()
		require.Less(t, try, starts, "%v", err)
		t.Logf("Chromium did not start: %v", err)
	}
}
