package integration

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/testserver/chromium"
)

// person clicks in a Chromium of its own.
type person struct {
	t   *testing.T
	ctx context.Context
}

func newPerson(t *testing.T) *person {
	t.Helper()
	return &person{t, chromium.New(t, 2*patience, "en", 1280)}
}

// goes opens an address and waits until the page has loaded.
func (p *person) goes(address string) { p.t.Helper(); p.does(chromedp.Navigate(address)) }

// does what leads to another page, and waits until that has loaded.
func (p *person) does(actions ...chromedp.Action) {
	p.t.Helper()
	_, err := chromedp.RunResponse(p.ctx, actions...)
	require.NoError(p.t, err)
}

// sees returns the heading of the page and its address.
func (p *person) sees() (heading, address string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Run(p.ctx, chromedp.Text("h1", &heading, chromedp.ByQuery), chromedp.Location(&address)))
	return heading, address
}

// text is all that the page says.
func (p *person) text() (text string) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Run(p.ctx, chromedp.Text("body", &text, chromedp.ByQuery)))
	return text
}

// picture keeps what the page looks like where the environment names a folder for
// it.
func (p *person) picture(name string) {
	p.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	var shot []byte
	require.NoError(p.t, chromedp.Run(p.ctx, chromedp.FullScreenshot(&shot, 100)))
	require.NoError(p.t, os.WriteFile(filepath.Join(folder, name+".png"), shot, 0o600))
}

func press(selector string) chromedp.Action { return chromedp.Click(selector, chromedp.ByQuery) }

func fill(selector, text string) chromedp.Action {
	return chromedp.SendKeys(selector, text, chromedp.ByQuery)
}

// logsIn fills in our own page to log in.
func (p *person) logsIn(password string) {
	p.t.Helper()
	p.does(fill("#login", "shop-1"), fill("#password", password), press("main button"))
}

// agrees on our page, and is brought back to the vendor, whose program reports.
func (p *person) agrees(program *script) (r clientReport) {
	p.t.Helper()
	_, err := chromedp.RunResponse(p.ctx, press("button[value=approve]"))
	program.next(&r) // which says more about what went wrong
	require.NoError(p.t, err)
	heading, address := p.sees()
	require.Equal(p.t, "Done", heading, address)
	return r
}
