package pusher

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// TestWrapVector is RFC 3394 section 4.6: 256 bits of key data with a 256-bit key.
func TestWrapVector(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	w, err := newWrapper(unhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"))
	require.NoError(t, err)
	var out [wrappedSize]byte
	cek := [cekSize]byte(unhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"))
	wrapKey(w, &out, &cek)
	require.Equal(t, unhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"), out[:])
	var back [cekSize]byte
	require.NoError(t, unwrapKey(w, &back, &out))
	require.Equal(t, cek, back)
	out[3] ^= 1
	require.ErrorIs(t, unwrapKey(w, &back, &out), errUnwrap)
	_, err = newWrapper(make([]byte, 16))
	require.Error(t, err)
}

func sealed(t require.TestingT, m *Message) []byte {
	app := testApp(1)
	s, err := newSubscriber(&app)
	require.NoError(t, err)
	body, err := s.sealers[m.Environment][0].seal(rand.Reader, newEvent(m, jsonString("https://open.example.com")), s.key)
	require.NoError(t, err)
	return body
}

// TestJOSE: another implementation decrypts what we encrypt.
func TestJOSE(t *testing.T) {
	m := &Message{
		ID: MessageID{1_700_000_000_123_456, 7}, Environment: platform.Production, Topic: "trade.created", User: `m"1`,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 8*3600)), Data: []byte(`{"a": [1, 2.50, "\u4f60<"]}`),
	}
	body := sealed(t, m)
	var envelope struct{ Encrypt string }
	require.NoError(t, json.Unmarshal(body, &envelope))
	object, err := jose.ParseEncryptedCompact(envelope.Encrypt, []jose.KeyAlgorithm{jose.A256KW}, []jose.ContentEncryption{jose.A256GCM})
	require.NoError(t, err)
	require.Equal(t, "ak_1.1", object.Header.KeyID)
	require.Equal(t, "application/cloudevents+json", object.Header.ExtraHeaders[jose.HeaderContentType])
	plain, err := object.Decrypt(testKey(1))
	require.NoError(t, err)
	require.Equal(t, `{"specversion":"1.0","id":"`+m.ID.String()+`","source":"https://open.example.com","type":"trade.created","subject":"m\"1",`+
		`"time":"2026-01-01T19:04:05.0000006Z","datacontenttype":"application/json","appkey":"ak_1","data":{"a": [1, 2.50, "\u4f60<"]}}`, string(plain))
	require.True(t, json.Valid(plain))
	_, err = object.Decrypt(testKey(2))
	require.Error(t, err)
}

func TestSealRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := json.Marshal(rapid.SliceOfN(rapid.String(), 0, 50).Draw(t, "data"))
		require.NoError(t, err)
		m := &Message{ID: MessageID{1, 2}, Environment: platform.Sandbox, Topic: "a.b", User: rapid.String().Draw(t, "user"), Data: data}
		body := sealed(t, m)
		plain, err := Decrypt(testKey(4), body)
		require.NoError(t, err)
		var event struct{ Data json.RawMessage }
		require.NoError(t, json.Unmarshal(plain, &event))
		require.Equal(t, data, []byte(event.Data))
		i := rapid.IntRange(0, len(body)-1).Draw(t, "place")
		changed := bytes.Clone(body)
		changed[i] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
		_, err = Decrypt(testKey(4), changed)
		require.Error(t, err, "byte %d changed", i)
		require.NotEqual(t, body, sealed(t, m), "a key and a nonce of its own")
	})
}

func TestDecryptPins(t *testing.T) {
	body := string(sealed(t, benchMessage()))
	header := func(h string) string {
		_, rest, _ := strings.Cut(body, ".")
		return bodyHead + string(appendBase64(nil, []byte(h))) + "." + rest
	}
	for name, text := range map[string]string{
		"alg": header(`{"alg":"dir","enc":"A256GCM"}`), "enc": header(`{"alg":"A256KW","enc":"A128GCM"}`), "no JSON": header(`x`),
		"empty": "", "no envelope": strings.TrimSuffix(body, `"}`), "four parts": strings.Replace(body, ".", "", 1),
		"another order": `{"encrypt": ` + body[len(bodyHead)-1:],
	} {
		_, err := Decrypt(testKey(1), []byte(text))
		require.ErrorIs(t, err, errBody, name)
	}
	_, err := Decrypt([]byte("short"), []byte(body))
	require.Error(t, err)
}

func FuzzDecrypt(f *testing.F) {
	f.Add(sealed(f, &Message{Environment: platform.Production, Topic: "a", Data: []byte("1")}))
	f.Add([]byte(`{"encrypt":"a.b.c.d.e"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if plain, err := Decrypt(testKey(1), body); err == nil && !json.Valid(plain) {
			t.Errorf("decrypted %q", plain)
		}
	})
}
