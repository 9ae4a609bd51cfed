package platform_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func TestSecretMasksItself(t *testing.T) {
	s := platform.NewSecret([]byte("hunter2"))
	held := struct{ S platform.Secret }{s}
	asJSON, err := json.Marshal(held)
	require.NoError(t, err)
	asText, err := s.MarshalText()
	require.NoError(t, err)
	for _, out := range []string{
		fmt.Sprint(s, held, &held), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s),
		fmt.Sprintf("%+v %#v %x", held, held, held), string(asJSON), string(asText),
	} {
		require.NotContains(t, out, "hunter2")
		require.NotContains(t, out, "104 117 110")
		require.NotContains(t, out, "68756e746572")
	}
	require.Equal(t, "hunter2", string(s.Reveal()))
}
