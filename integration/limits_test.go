package integration

import (
	"errors"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLimits sets rates and quotas by the command line and runs into them.
func TestLimits(t *testing.T) {
	n, _ := startShop(t, globals("")+gated("http://127.0.0.1:%site%", "sandbox", "")+gated("http://127.0.0.1:%production%", "production", ""))
	client, base := n.plain(), n.fill("http://127.0.0.1:%site%")
	echo := func(a app) answer { return send(t, client, a.sign(t, call{url: base + "/v1/echo"})) }
	limited := func(got answer, code string) {
		got.refused(t, http.StatusTooManyRequests, code)
		wait, err := strconv.Atoi(got.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.Positive(t, wait)
	}

	t.Run("a rate", func(t *testing.T) {
		n.cli("plan", "put", "slow", "--app", "3/1h")
		a := n.newApp("--plan", "slow")
		for left := 2; left >= 0; left-- {
			got := echo(a).passed(t)
			require.Regexp(t, `^"app";r=`+strconv.Itoa(left)+`;t=\d+$`, got.Header.Get("Ratelimit"))
			require.Equal(t, `"app";q=3;w=3600`, got.Header.Get("Ratelimit-Policy"))
		}
		got := echo(a)
		limited(got, "rate_limited")
		require.Regexp(t, `^"app";r=0;t=`+got.Header.Get("Retry-After")+`$`, got.Header.Get("Ratelimit"))

		n.cli("plan", "put", "fast", "--app", "1000/1s")
		n.cli("app", "plan", a.Key, "fast")
		eventually(t, "a better plan ends the wait", func() error {
			if got := echo(a); got.StatusCode != http.StatusOK {
				return errors.New(string(got.body))
			}
			return nil
		})
	})

	t.Run("refused calls cost nothing", func(t *testing.T) {
		n.cli("plan", "put", "few", "--app", "2/1h")
		a := n.newApp("--plan", "few")
		wrong := a
		wrong.Secret += "x"
		for range 3 {
			echo(wrong).refused(t, http.StatusUnauthorized, "signature_invalid")
			send(t, client, a.sign(t, call{url: base + "/v1/nothing"})).refused(t, http.StatusNotFound, "api_unknown")
			send(t, client, a.sign(t, call{url: base + "/v1/gold"})).refused(t, http.StatusForbidden, "package_not_granted")
			send(t, client, a.sign(t, call{url: n.fill("http://127.0.0.1:%production%/v1/echo")})).refused(t, http.StatusForbidden, "environment_mismatch")
		}
		echo(a).passed(t)
		echo(a).passed(t)
		limited(echo(a), "rate_limited")
	})

	t.Run("the tightest limit speaks, all are charged or none", func(t *testing.T) {
		n.cli("plan", "put", "both", "--app", "5/1h", "--app-api", "1/1h", "--api", "shop.item.get=2/1h")
		a := n.newApp("--plan", "both")
		echo(a).passed(t)
		for range 10 {
			got := echo(a)
			limited(got, "rate_limited")
			require.Contains(t, got.Header.Get("Ratelimit-Policy"), `"app-api";q=1`)
		}
		item := func() answer { return send(t, client, a.sign(t, call{url: base + "/v1/items/1"})) }
		item().passed(t)
		item().passed(t)
		limited(item(), "rate_limited")
		send(t, client, a.sign(t, call{url: base + "/v1/echo", body: []byte("x")})).passed(t)
	})

	t.Run("of all calls together", func(t *testing.T) {
		a := n.newApp()
		n.cli("limits", "set", "1/1h")
		echo(a).passed(t)
		limited(echo(n.newApp()), "rate_limited")
		n.cli("limits", "set", "none")
		echo(a).passed(t)
	})

	t.Run("a quota outlives a restart", func(t *testing.T) {
		n.cli("plan", "put", "monthly", "--app", "3/month")
		a := n.newApp("--plan", "monthly")
		for left := 2; left > 0; left-- {
			require.Regexp(t, `^"app-month";r=`+strconv.Itoa(left), echo(a).passed(t).Header.Get("Ratelimit"))
		}
		client.CloseIdleConnections()
		n.stop()
		n.run()
		echo(a).passed(t)
		limited(echo(a), "quota_exceeded")
		client.CloseIdleConnections()
		n.stop()
		n.run()
		limited(echo(a), "quota_exceeded")
	})
}
