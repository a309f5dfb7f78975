package mech_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

const digestChallenge = `realm="example.org",nonce="abc",qop="auth",algorithm=md5-sess,charset=utf-8`

// TestDigestBadChallenges has challenges to which the client must not respond.
func TestDigestBadChallenges(t *testing.T) {
	for challenge, want := range map[string]string{
		``:                                       "nonce",
		`algorithm=md5-sess,qop="auth"`:          "nonce",
		`nonce="a",nonce="b",algorithm=md5-sess`: "nonce",
		`nonce="a"`:                              "md5-sess",
		`nonce="a",algorithm=md5`:                "md5-sess",
		`nonce="a",algorithm=md5-sess,algorithm=md5-sess`:    "md5-sess",
		`nonce="a",algorithm=md5-sess,qop="auth-int"`:        "security layer",
		`nonce="a",algorithm=md5-sess,qop="auth",qop="auth"`: "security layer",
		`nonce="a",algorithm=md5-sess,qop=""`:                "security layer",
		`nonce="a`:                                           "RFC 2831",
		`nonce="a\`:                                          "RFC 2831",
		`nonce="a"b,algorithm=md5-sess`:                      "RFC 2831",
		`nonce`:                                              "RFC 2831",
		`="a"`:                                               "RFC 2831",
		`nonce="` + strings.Repeat("a", 4096) + `"`:          "too long",
	} {
		response, err := newMech(t, "digest-md5", alice).Next([]byte(challenge))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %q, %v; want %q in the error", challenge, response, err, want)
		}
	}
	latin1 := mech.Credentials{User: "alice", Password: "\u20ac", Host: "x"}
	if _, err := newMech(t, "digest-md5", latin1).Next([]byte(`nonce="a",algorithm=md5-sess`)); err == nil ||
		!strings.Contains(err.Error(), "8859-1") {
		t.Errorf("a euro sign in ISO 8859-1: %v", err)
	}
}

// TestDigestServerProof checks that the server must prove that it knows the password.
func TestDigestServerProof(t *testing.T) {
	for _, proof := range []string{"", "rspauth=", "rspauth=00000000000000000000000000000000", "nonce=abc", digestChallenge} {
		m := newMech(t, "digest-md5", alice)
		if _, err := m.Next([]byte(digestChallenge)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Next([]byte(proof)); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("%q: %v", proof, err)
		}
		if err := done(m, nil); !errors.Is(err, mech.ErrUnproven) {
			t.Errorf("+OK after %q: %v", proof, err)
		}
	}
}

// TestDigestResponse checks parts of the response that the examples of RFC 2831 do not
// show.
func TestDigestResponse(t *testing.T) {
	for _, test := range []struct {
		challenge string
		c         mech.Credentials
		want      string
	}{
		// The user's own domain is preferred to the first realm.
		{`realm="a",realm="example.org",nonce="n",algorithm=md5-sess`, mech.Credentials{User: "joe@example.org"}, `,realm="example.org",`},
		{`realm="a",realm="b",nonce="n",algorithm=md5-sess`, mech.Credentials{User: "joe@example.org"}, `,realm="a",`},
		{`nonce="n",algorithm=md5-sess`, mech.Credentials{User: "joe"}, `username="joe",nonce="n",nc=`},
		{`nonce="n\"\\",algorithm=md5-sess`, mech.Credentials{User: `j"\e`}, `username="j\"\\e",nonce="n\"\\",`},
		{`nonce="n",algorithm=md5-sess`, mech.Credentials{User: "é"}, "username=\"\xe9\","},
		{`nonce="n",algorithm=md5-sess,charset=utf-8`, mech.Credentials{User: "é"}, `charset=utf-8,username="é",`},
		{` , ,nonce = "n" , algorithm = md5-sess ,qop="auth-int, auth",`, mech.Credentials{User: "joe"}, `,nonce="n",`},
		{`nonce="n",algorithm=md5-sess`, mech.Credentials{User: "joe", Authzid: "ann"}, `,qop=auth,authzid="ann"`},
		{`nonce="n",algorithm=md5-sess`, mech.Credentials{User: "joe"}, `digest-uri="pop/host"`},
	} {
		test.c.Password, test.c.Host = "secret", "host"
		response, err := newMech(t, "digest-md5", test.c).Next([]byte(test.challenge))
		if err != nil || !strings.Contains(string(response), test.want) {
			t.Errorf("%s: %q, %v; want %q in it", test.challenge, response, err, test.want)
		}
	}
}

func FuzzDigest(f *testing.F) {
	f.Add(digestChallenge)
	f.Add(`nonce="a\`)
	f.Fuzz(func(t *testing.T, challenge string) {
		m := newMech(t, "digest-md5", alice)
		if response, err := m.Next([]byte(challenge)); err == nil && len(response) > 20_000 {
			t.Errorf("a response of %d bytes", len(response))
		}
	})
}
