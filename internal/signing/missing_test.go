package signing

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnreadSignature: where a call is signed in a form that is not read, it is told
// which form is.
func TestUnreadSignature(t *testing.T) {
	const pairs = "method=m&app_key=ak&timestamp=2024-03-01+12%3A30%3A45&sign=SECRET"
	encoded := func(contentType string) *Request {
		r := call("POST", "/r", contentType, "\x1f\x8bSECRET")
		r.Header.Set("Content-Encoding", "gzip")
		return r
	}
	input := func(text string) *Request {
		r := call("GET", "/r", "", "")
		r.Header.Set(headerInput, text)
		r.Header.Set(headerSignature, "op=:U0VDUkVU:")
		return r
	}
	const (
		formOnly = "a body with the parameters of top must be application/x-www-form-urlencoded without Content-Encoding"
		orJSON   = "a body with the parameters of dewu must be application/json or application/x-www-form-urlencoded without Content-Encoding"
		noTag    = `its Signature-Input has no tag="op1", which makes a signature one of op1`
	)
	for name, test := range map[string]struct {
		r        *Request
		dialects []string
		want     error
		detail   string
	}{
		"gzipped form":         {encoded(formType), []string{"op1", "top"}, ErrMissing, "expected one of op1, top; " + formOnly + `, not Content-Encoding "gzip"`},
		"gzipped JSON":         {encoded(jsonType), []string{"dewu"}, ErrMissing, orJSON + `, not Content-Encoding "gzip"`},
		"multipart":            {call("POST", "/r", "multipart/form-data; boundary=SECRET", "SECRET"), []string{"top"}, ErrMissing, formOnly + `, not Content-Type "multipart/form-data"`},
		"pdd in JSON":          {call("POST", "/r", jsonType, `{"type":"t","client_id":"ak","sign":"SECRET"}`), []string{"pdd", "dewu"}, ErrMissing, `parameters of pdd must be application/x-www-form-urlencoded without Content-Encoding, not Content-Type "application/json"`},
		"no type":              {call("POST", "/r", "", pairs), []string{"top"}, ErrMissing, `, not Content-Type ""`},
		"a form, not signed":   {call("POST", "/r", formType, "a=b"), []string{"top"}, ErrMissing, "expected one of top"},
		"no body":              {call("GET", "/r", "", ""), []string{"top"}, ErrMissing, "expected one of top"},
		"a body with op1 only": {encoded(jsonType), []string{"op1"}, ErrMissing, "expected one of op1"},
		"no parameters inside": {encoded(jsonType), []string{"doudian", "shopee"}, ErrMissing, "expected one of doudian, shopee"},

		"broken list":        {input(`op=((("@method"`), []string{"op1"}, ErrMalformed, "Signature-Input is not a dictionary"},
		"broken, beside top": {input(`op`), []string{"top", "op1"}, ErrMalformed, "Signature-Input is not a dictionary"},
		"broken second":      {input(`a=("@method");tag="x", op=`), []string{"op1"}, ErrMalformed, "Signature-Input is not a dictionary"},
		"broken, not read":   {input(`op=((("@method"`), []string{"top"}, ErrMissing, "expected one of top"},
		"another tag":        {input(`op=("@method");keyid="SECRET";tag="op2"`), []string{"op1"}, ErrMissing, "expected one of op1; " + noTag},
		"no tag":             {input(`op=("@method");keyid="SECRET"`), []string{"top", "op1"}, ErrMissing, noTag},
		"tag without quotes": {input(`op=("@method");tag=op1`), []string{"op1"}, ErrMissing, noTag},
	} {
		t.Run(name, func(t *testing.T) {
			err := mustSet(t, test.dialects...).Claim(new(Claim), test.r)
			require.ErrorIs(t, err, test.want)
			if errors.Is(test.want, ErrMissing) {
				require.True(t, strings.HasSuffix(err.Error(), test.detail), "%v", err)
			}
			require.ErrorContains(t, err, test.detail)
			require.NotContains(t, err.Error(), "SECRET")
		})
	}
}
