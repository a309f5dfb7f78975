package mask_test

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/mask"
)

const secret = `Gr33n/"Horse"+stäple battery`

// Whatever a server makes of a secret, no piece of it is left that could be
// known again.
func TestText(t *testing.T) {
	var s mask.Set
	s.Add(secret)
	s.Add("hunter2")
	for _, said := range []string{
		secret, "wrong password: " + secret + "!", strings.ToUpper(secret[:12]), secret[4:14], secret[:10] + " ... " + secret[10:],
		"hunter2", "user:hunter2@host", "HUNTER2hunter2", "aGVsbG86aHVudGVyMg==", base64.StdEncoding.EncodeToString([]byte("hunter2")),
		hex.EncodeToString([]byte("hunter2")), strings.ToUpper(hex.EncodeToString([]byte(secret))), "?p=" + url.QueryEscape(secret), url.PathEscape(secret),
	} {
		got := s.Text(said)
		if !strings.Contains(got, "***") {
			t.Errorf("%q is not masked", said)
		}
		noPiece(t, said, got)
	}
	for before := range 4 {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			said := encoding.EncodeToString([]byte("\x00ada"[:before] + secret + "\x01\x01"))
			got := s.Text(said)
			noPiece(t, said, got)
			if len(strings.ReplaceAll(got, "***", "")) > 10 {
				t.Errorf("%q became %q", said, got)
			}
		}
	}
	for _, plain := range []string{"", "no such user", "battery", "hunter", "Gr33n"} {
		if got := s.Text(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
}

// noPiece looks for pieces of eight bytes of the secret.
func noPiece(t *testing.T, said, got string) {
	t.Helper()
	for i := range len(secret) - 7 {
		for _, form := range []string{secret[i : i+8], hex.EncodeToString([]byte(secret[i : i+8]))} {
			if strings.Contains(strings.ToLower(got), strings.ToLower(form)) {
				t.Errorf("of %q is left %q", said, got)
			}
		}
	}
}

func TestMessage(t *testing.T) {
	var s mask.Set
	s.AddMessage("\x00ada\x00" + secret)
	said := "I was sent " + base64.StdEncoding.EncodeToString([]byte("\x00ada\x00"+secret)) + " by ada"
	if got := s.Text(said); !strings.HasPrefix(got, "I was sent ***") || !strings.HasSuffix(got, " by ada") || len(got) > 32 {
		t.Errorf("%q became %q", said, got)
	}
}

func TestNothingToHide(t *testing.T) {
	var none *mask.Set
	if got := none.Text("all") + new(mask.Set).Text(" well"); got != "all well" {
		t.Errorf("got %q", got)
	}
	var s mask.Set
	s.Add("")
	if got := s.Text("all well"); got != "all well" {
		t.Errorf("got %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add(secret, secret)
	f.Add("a", "aaaa")
	f.Fuzz(func(t *testing.T, secret, text string) {
		var s mask.Set
		s.Add(secret)
		got := s.Text(text + secret + text)
		if secret != "" && !strings.Contains(secret, "*") && strings.Contains(got, secret) {
			t.Errorf("%q holds %q", got, secret)
		}
	})
}
