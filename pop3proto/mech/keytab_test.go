package mech_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// TestKeytab has unusable keytabs. The errors must not contain a key.
func TestKeytab(t *testing.T) {
	kt := keytab.New()
	for kvno := range uint8(2) {
		if err := kt.AddEntry("alice", "EXAMPLE.ORG", "secret", time.Unix(1, 0), kvno, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
			t.Fatal(err)
		}
	}
	content, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf, file := filepath.Join(dir, "krb5.conf"), filepath.Join(dir, "keytab")
	if err := os.WriteFile(conf, []byte("[libdefaults]\n  default_realm = EXAMPLE.ORG\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"truncated": string(content[:len(content)-8]), "no keytab": "keytab: me", "no key": "\x05\x02\x00\x00\x00\x00", "empty": "", "missing": "-",
	} {
		want := "gssapi: the keytab " + file + " is damaged, or has no key in it"
		if text == "-" {
			want = "gssapi: the keytab cannot be read: open " + file + ": no such file or directory"
			_ = os.Remove(file)
		} else if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := mech.New(t.Context(), "gssapi", mech.Credentials{
			User: "alice", Host: "localhost", Kerberos: mech.Kerberos{Config: conf, Keytab: file},
		})
		e, ok := errors.AsType[*mech.TicketError](err)
		if !ok || err.Error() != want || e.Temporary() || !strings.Contains(e.Hint(), "check keytab") {
			t.Errorf("%s: error %q, want %q", name, err, want)
		}
	}
}
