package oauth

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseUserCode(t *testing.T) {
	for typed, want := range map[string]string{
		"WDJB-MJHT": "WDJBMJHT", "wdjb-mjht": "WDJBMJHT", "wdjbmjht": "WDJBMJHT", "\tWDJB MJHT.": "WDJBMJHT", "W-D-J-B–M.J.H.T": "WDJBMJHT",
		"ＷＤＪＢ－ｍｊｈｔ": "WDJBMJHT",
		"":          "", "WDJB-MJH": "", "WDJB-MJHTT": "", "WDJA-MJHT": "", "WDJB-MJH0": "", "WDJB-MJH店": "", "\xff\xff": "",
		"WDJB-MJHT" + strings.Repeat("-", 60): "",
	} {
		code, ok := parseUserCode(typed)
		require.Equal(t, want != "", ok, typed)
		if ok {
			require.Equal(t, want, code)
		}
	}
}

// A code is made of all letters of the alphabet alike, and read as it is shown.
func TestNewUserCode(t *testing.T) {
	seen := map[rune]int{}
	s := &Server{Options: Options{Rand: rand.Reader}}
	const codes = 5000
	for range codes {
		code, err := s.newUserCode()
		require.NoError(t, err)
		require.Regexp(t, `^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`, formatUserCode(code))
		got, ok := parseUserCode(strings.ToLower(formatUserCode(code)))
		require.True(t, ok)
		require.Equal(t, code, got)
		for _, c := range code {
			seen[c]++
		}
	}
	for _, c := range userCodeAlphabet { // 2000 each; 200 is more than four standard deviations
		require.InDelta(t, codes*userCodeLength/len(userCodeAlphabet), seen[c], 200, string(c))
	}
	_, err := (&Server{Options: Options{Rand: bytes.NewReader(nil)}}).newUserCode()
	require.Error(t, err)
	s.Rand = bytes.NewReader([]byte{255, 0, 240, 19, 20, 39, 239, 1, 2, 3})
	code, err := s.newUserCode()
	require.NoError(t, err)
	require.Equal(t, "BZBZZCDF", code, "what would make some letters come more often is left out")
}

// What is in a seal comes out of it, for the same purpose alone.
func TestSealProperty(t *testing.T) {
	s := &Server{Options: Options{Issuer: "https://open.example.com"}}
	rapid.Check(t, func(t *rapid.T) {
		secrets := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}
		want := startLink{AppKey: rapid.String().Draw(t, "key"), Until: rapid.Int64().Draw(t, "until")}
		want.AppKey = strings.ToValidUTF8(want.AppKey, "?")
		text, err := seal(rand.Reader, secrets[1:], deriveStart, want)
		if err != nil {
			t.Fatal(err)
		}
		var got startLink
		if !unseal(secrets, deriveStart, text, &got) || got != want {
			t.Fatalf("%v became %v", want, got)
		}
		if unseal(secrets[:1], deriveStart, text, &got) || unseal(secrets, s.derivePushed, text, &got) {
			t.Fatal("it opens for another")
		}
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		changed := text[:at] + string(text[at]^1) + text[at+1:]
		if unseal(secrets, deriveStart, changed, &got) {
			t.Fatal("it opens although it was changed")
		}
	})
}

func FuzzParseUserCode(f *testing.F) {
	f.Add("wdjb-mjht")
	f.Add("ＷＤＪＢ\x00ſ\xff")
	f.Fuzz(func(t *testing.T, typed string) {
		code, ok := parseUserCode(typed)
		if ok && (len(code) != userCodeLength || strings.Trim(code, userCodeAlphabet) != "") {
			t.Fatalf("%q became %q", typed, code)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	secrets := [][]byte{make([]byte, 32)}
	good, err := seal(rand.Reader, secrets, deriveStart, startLink{AppKey: "ak"})
	require.NoError(f, err)
	f.Add(good)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		var l startLink
		if unseal(secrets, deriveStart, text, &l) && text != good {
			t.Fatalf("%q opens", text)
		}
	})
}
