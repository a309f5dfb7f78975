package mech_test

import (
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// vectors are the examples of RFCs. "C: " as the first line is an initial response. \0 and
// \1 are bytes.
var vectors = []struct {
	source, name, nonce string
	c                   mech.Credentials
	dialogue            string
}{
	{
		source: "RFC 4616 §4", name: "plain",
		c: mech.Credentials{User: "tim", Password: "tanstaaftanstaaf"},
		dialogue: `
C: \0tim\0tanstaaftanstaaf`,
	},
	{
		source: "RFC 4616 §4, authzid", name: "plain",
		c: mech.Credentials{Authzid: "Ursel", User: "Kurt", Password: "xipj3plmq"},
		dialogue: `
C: Ursel\0Kurt\0xipj3plmq`,
	},
	{
		source: "RFC 2195 §2", name: "cram-md5",
		c: mech.Credentials{User: "tim", Password: "tanstaaftanstaaf"},
		dialogue: `
S: <1896.697170952@postoffice.reston.mci.net>
C: tim b913a602c7eda7a495b4e6e7334d3890`,
	},
	{
		source: "RFC 2831 §4, IMAP", name: "digest-md5", nonce: "OA6MHXh6VqTrRk",
		c: mech.Credentials{User: "chris", Password: "secret", Service: "imap", Host: "elwood.innosoft.com"},
		dialogue: `
S: realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8
C: charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",nc=00000001,cnonce="OA6MHXh6VqTrRk",digest-uri="imap/elwood.innosoft.com",response=d388dad90d4bbd760a152321f2143af7,qop=auth
S: rspauth=ea40f60335c427b5527b84dbabcdfffd
C: `,
	},
	{
		source: "RFC 2831 §4, ACAP", name: "digest-md5", nonce: "OA9BSuZWMSpW8m",
		c: mech.Credentials{User: "chris", Password: "secret", Service: "acap", Host: "elwood.innosoft.com"},
		dialogue: `
S: realm="elwood.innosoft.com",nonce="OA9BSXrbuRhWay",qop="auth",algorithm=md5-sess,charset=utf-8
C: charset=utf-8,username="chris",realm="elwood.innosoft.com",nonce="OA9BSXrbuRhWay",nc=00000001,cnonce="OA9BSuZWMSpW8m",digest-uri="acap/elwood.innosoft.com",response=6084c6db3fede7352c551284490fd0fc,qop=auth
S: rspauth=2f0b3d7c3c2e486600ef710726aa2eae
C: `,
	},
	{
		source: "RFC 5802 §5", name: "scram-sha-1", nonce: "fyko+d2lbbFgONRv9qkxdawL",
		c: mech.Credentials{User: "user", Password: "pencil"},
		dialogue: `
C: n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL
S: r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096
C: c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=
S: v=rmF9pqV8S7suAoZWja4dJRkFsKQ=
C: `,
	},
	{
		source: "RFC 7677 §3", name: "scram-sha-256", nonce: "rOprNGfwEbeRWgbNEkqO",
		c: mech.Credentials{User: "user", Password: "pencil"},
		dialogue: `
C: n,,n=user,r=rOprNGfwEbeRWgbNEkqO
S: r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096
C: c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=
S: v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=
C: `,
	},
	{
		source: "RFC 7628 §4.1", name: "oauthbearer",
		c: mech.Credentials{
			User: "user@example.com", Host: "server.example.com", Port: 143,
			Token: "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
		},
		dialogue: `
C: n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1`,
	},
	{
		source: "RFC 7628 §4.3, a token refused", name: "oauthbearer",
		c: mech.Credentials{User: "user@example.com", Token: "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="},
		dialogue: `
C: n,a=user@example.com,\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1
S: {"status":"invalid_token","scope":"example_scope","openid-configuration":"https://example.com/.well-known/openid-configuration"}
C: \1`,
	},
	{
		// https://developers.google.com/workspace/gmail/imap/xoauth2-protocol
		source: "XOAUTH2 of Google", name: "xoauth2",
		c: mech.Credentials{User: "someuser@example.com", Token: "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"},
		dialogue: `
C: user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\1\1
S: {"status":"401","schemes":"bearer","scope":"https://mail.google.com/"}
C: `,
	},
	{
		source: "LOGIN, usual challenges", name: "login",
		c: mech.Credentials{User: "tim", Password: "tanstaaftanstaaf"},
		dialogue: `
S: Username:
C: tim
S: Password:
C: tanstaaftanstaaf`,
	},
	{
		source: "LOGIN, other challenges", name: "login",
		c: mech.Credentials{User: "tim", Password: "tanstaaftanstaaf"},
		dialogue: `
S: 
C: tim
S: Mot de passe\0
C: tanstaaftanstaaf`,
	},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.source, func(t *testing.T) {
			m, err := mech.NewWithNonce(v.name, v.c, v.nonce)
			if err != nil {
				t.Fatal(err)
			}
			runDialogue(t, m, v.name, v.dialogue)
		})
	}
}

// runDialogue sends the server's lines to the mechanism and checks its responses.
func runDialogue(t *testing.T, m sasl.Client, name, dialogue string) {
	t.Helper()
	started, response, err := m.Start()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(started, name) {
		t.Errorf("name %q, want %q", started, name)
	}
	for line := range strings.SplitSeq(strings.TrimPrefix(dialogue, "\n"), "\n") {
		text := strings.NewReplacer(`\0`, "\x00", `\1`, "\x01").Replace(line[len("C: "):])
		if line[0] == 'S' {
			if response != nil {
				t.Fatalf("unexpected response %q", response)
			}
			if response, err = m.Next([]byte(text)); err != nil {
				t.Fatalf("after %q: %v", text, err)
			}
			continue
		}
		// An empty response must not be nil, which means no response.
		if response == nil || string(response) != text {
			t.Fatalf("response %q, want %q", response, text)
		}
		response = nil
	}
	// OAuth mechanisms respond to one more challenge, an error message.
	if _, err := m.Next([]byte("more")); err == nil && name != "oauthbearer" && name != "xoauth2" {
		t.Error("the mechanism responds to a challenge too many")
	}
}
