package smtp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// TestToken has servers refuse an access token, with and without a reason.
func TestToken(t *testing.T) {
	const token = "t0ken-secret"
	reason := "334 " + base64.StdEncoding.EncodeToString([]byte(`{"status":"401","scope":"mail"}`))
	response := base64.StdEncoding.EncodeToString([]byte("user=me\x01auth=Bearer " + token + "\x01\x01"))
	for _, test := range []struct {
		name, offer string
		reply       map[string]string
		fault       deliver.Fault
		words       []string
		hint        string
	}{
		{"reason", "AUTH XOAUTH2", map[string]string{"AUTH": reason, "": "535 5.7.8 not " + token}, deliver.FaultOperator, []string{"has expired"}, "mailhaul login"},
		{"reason, by OAUTHBEARER", "AUTH OAUTHBEARER", map[string]string{"AUTH": reason, "AQ==": "535 no"}, deliver.FaultOperator, []string{"has expired"}, "mailhaul login"},
		{"reason, then gone", "AUTH XOAUTH2", map[string]string{"AUTH": reason, "": hangUp}, deliver.FaultOperator, []string{"has expired"}, "mailhaul login"},
		{"reason, but not for good", "AUTH XOAUTH2", map[string]string{"AUTH": reason, "": "454 4.7.0 later"}, deliver.FaultTemporary, []string{"refuses the access token"}, ""},
		{"no reason", "AUTH PLAIN XOAUTH2", map[string]string{"AUTH": "535 5.7.8 not " + response}, deliver.FaultOperator, []string{"535 5.7.8", "not ***"}, "mailhaul login"},
		{"not now", "AUTH XOAUTH2", map[string]string{"AUTH": "454 4.7.0 later"}, deliver.FaultTemporary, []string{"454"}, ""},
		{"not offered", "AUTH PLAIN", nil, deliver.FaultOperator, []string{"PLAIN"}, "password options"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: []string{test.offer}, reply: on(test.reply)}
			script(t, srv)
			opts := options(t, srv.addr)
			opts.Server.User, opts.Server.Token = "me", func(context.Context) (string, error) { return token, nil }
			_, err := newSink(t, opts).Begin(t.Context())
			wantError(t, err, test.fault, test.words...)
			if e, ok := errors.AsType[*deliver.Error](err); ok && !strings.Contains(e.Hint, test.hint) {
				t.Errorf("hint %q, want %q", e.Hint, test.hint)
			}
			if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), response[:8])) {
				t.Errorf("the token is in %q", err)
			}
		})
	}

	// What makes the command longer than 512 octets, the server asks for.
	for length, fits := range map[int]bool{10: true, 350: true, 351: false, 8000: false} {
		token := strings.Repeat("t", length)
		srv := &scripted{extensions: []string{"AUTH PLAIN XOAUTH2"}, reply: func(_ int, _, line string) string {
			if line == "AUTH XOAUTH2" {
				return "334 "
			}
			if strings.HasPrefix(line, "dXNlcj1tZQ") { // user=me
				return "235 welcome"
			}
			return ""
		}}
		script(t, srv)
		opts := options(t, srv.addr)
		opts.Server.User, opts.Server.Token = "me", func(context.Context) (string, error) { return token, nil }
		b, err := newSink(t, opts).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Abort()
		response := base64.StdEncoding.EncodeToString([]byte("user=me\x01auth=Bearer " + token + "\x01\x01"))
		want := []string{"AUTH XOAUTH2 " + response}
		if !fits {
			want = []string{"AUTH XOAUTH2", response}
		}
		if said := srv.said("")[1:]; !slices.Equal(said, want) { // behind EHLO
			t.Errorf("said %.100q, want %.100q", said, want)
		}
	}
}
