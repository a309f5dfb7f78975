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

// TestText checks that no piece of eight bytes of a secret is left, whatever the server has
// done to it.
func TestText(t *testing.T) {
	var s mask.Set
	s.Add(secret)
	s.Add("hunter2")
	for _, text := range []string{
		secret, "wrong password: " + secret + "!", strings.ToUpper(secret[:12]), secret[4:14], secret[:10] + " ... " + secret[10:],
		"hunter2", "user:hunter2@host", "HUNTER2hunter2", "aGVsbG86aHVudGVyMg==", base64.StdEncoding.EncodeToString([]byte("hunter2")),
		hex.EncodeToString([]byte("hunter2")), strings.ToUpper(hex.EncodeToString([]byte(secret))), "?p=" + url.QueryEscape(secret), url.PathEscape(secret),
	} {
		got := s.Text(text)
		if !strings.Contains(got, "***") {
			t.Errorf("%q is not masked", text)
		}
		checkNoPiece(t, text, got)
	}
	for before := range 4 {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString([]byte("\x00ada"[:before] + secret + "\x01\x01"))
			got := s.Text(text)
			checkNoPiece(t, text, got)
			if len(strings.ReplaceAll(got, "***", "")) > 10 {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
	for _, plain := range []string{"", "no such user", "battery", "hunter", "Gr33n"} {
		if got := s.Text(plain); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
}

// checkNoPiece checks that got, the masked text, has no piece of eight bytes of secret.
func checkNoPiece(t *testing.T, text, got string) {
	t.Helper()
	for i := range len(secret) - 7 {
		for _, form := range []string{secret[i : i+8], hex.EncodeToString([]byte(secret[i : i+8]))} {
			if strings.Contains(strings.ToLower(got), strings.ToLower(form)) {
				t.Errorf("%q became %q, which has a piece of the secret", text, got)
			}
		}
	}
}

func TestMessage(t *testing.T) {
	var s mask.Set
	s.AddMessage("\x00ada\x00" + secret)
	text := "I was sent " + base64.StdEncoding.EncodeToString([]byte("\x00ada\x00"+secret)) + " by ada"
	if got := s.Text(text); !strings.HasPrefix(got, "I was sent ***") || !strings.HasSuffix(got, " by ada") || len(got) > 32 {
		t.Errorf("%q became %q", text, got)
	}
}

func TestNoSecrets(t *testing.T) {
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
			t.Errorf("%q contains %q", got, secret)
		}
	})
}
