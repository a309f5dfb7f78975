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

// TestAccessToken checks how a refused access token is reported, and when it is sent on
// the line of AUTH.
func TestAccessToken(t *testing.T) {
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
		{name: "reason", offer: "AUTH XOAUTH2", reply: map[string]string{"AUTH": reason, "": "535 5.7.8 not " + token}, fault: deliver.FaultOperator, words: []string{"has expired"}, hint: "mailhaul login"},
		{name: "reason, by OAUTHBEARER", offer: "AUTH OAUTHBEARER", reply: map[string]string{"AUTH": reason, "AQ==": "535 no"}, fault: deliver.FaultOperator, words: []string{"has expired"}, hint: "mailhaul login"},
		{name: "reason, then gone", offer: "AUTH XOAUTH2", reply: map[string]string{"AUTH": reason, "": hangUp}, fault: deliver.FaultOperator, words: []string{"has expired"}, hint: "mailhaul login"},
		{name: "reason, but not for good", offer: "AUTH XOAUTH2", reply: map[string]string{"AUTH": reason, "": "454 4.7.0 later"}, fault: deliver.FaultTemporary, words: []string{"refuses the access token"}},
		{name: "no reason", offer: "AUTH PLAIN XOAUTH2", reply: map[string]string{"AUTH": "535 5.7.8 not " + response}, fault: deliver.FaultOperator, words: []string{"535 5.7.8", "not ***"}, hint: "mailhaul login"},
		{name: "not now", offer: "AUTH XOAUTH2", reply: map[string]string{"AUTH": "454 4.7.0 later"}, fault: deliver.FaultTemporary, words: []string{"454"}},
		{name: "not offered", offer: "AUTH PLAIN", fault: deliver.FaultOperator, words: []string{"PLAIN"}, hint: "password options"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := &scripted{extensions: []string{test.offer}, reply: replyOnce(test.reply)}
			srv.start(t)
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

	// RFC 4954 §4: an initial response that would make the command longer than 512 octets
	// is sent on a line of its own, when the server asks for it.
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
		srv.start(t)
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
		if sent := srv.commands("")[1:]; !slices.Equal(sent, want) { // after EHLO
			t.Errorf("the client sent %.100q, want %.100q", sent, want)
		}
	}
}
