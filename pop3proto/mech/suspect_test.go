package mech_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// TestSuspect checks that challenges match ErrSuspect if only an attacker would send them,
// and not if the server refuses the login or has a bug.
func TestSuspect(t *testing.T) {
	// "own" is replaced with the client's nonce.
	salt := base64.StdEncoding.EncodeToString([]byte("salt"))
	for challenge, suspect := range map[string]bool{
		"r=other,s=" + salt + ",i=4096":         true,
		"r=own,s=" + salt + ",i=4096":           true, // without a part of the server
		"r=own+,s=" + salt + ",i=1":             true,
		"r=own+,s=" + salt + ",i=99999999":      true,
		"e=channel-bindings-dont-match":         true,
		"e=server-does-support-channel-binding": true,
		"e=invalid-proof":                       false,
		"e=other-error":                         false,
		"e=no-resources":                        false,
		"r=own+,s=" + salt:                      false,
		"r=own+,s=" + salt + ",i=many":          false,
		"nonsense":                              false,
		"":                                      false,
		strings.Repeat("x", 5000):               false,
	} {
		m, err := mech.New(t.Context(), "scram-sha-256", mech.Credentials{User: "ada", Password: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		_, first, err := m.Start()
		if err != nil {
			t.Fatal(err)
		}
		_, own, _ := strings.Cut(string(first), "r=")
		_, err = m.Next([]byte(strings.Replace(challenge, "own", own, 1)))
		if err == nil {
			t.Fatalf("%.80q is accepted", challenge)
		}
		if errors.Is(err, mech.ErrSuspect) != suspect || strings.Contains(mech.Hint(err), "do not trust") != suspect {
			t.Errorf("%.80q: %v matches ErrSuspect: %v, want %v; hint %q", challenge, err, !suspect, suspect, mech.Hint(err))
		}
	}
}
