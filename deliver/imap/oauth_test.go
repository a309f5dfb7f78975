package imap_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// TestToken has servers refuse an access token, with and without a reason.
func TestToken(t *testing.T) {
	const token = "t0ken-secret"
	reason := base64.StdEncoding.EncodeToString([]byte(`{"status":"401","scope":"mail"}`))
	response := base64.StdEncoding.EncodeToString([]byte("user=" + user + "\x01auth=Bearer " + token + "\x01\x01"))
	for _, test := range []struct {
		name  string
		s     script
		want  string // in the error, or in what was said if there is none
		fault deliver.Fault
		hint  string
	}{
		{name: "taken", s: script{caps: "AUTH=PLAIN AUTH=XOAUTH2 SASL-IR"}, want: "AUTHENTICATE XOAUTH2 " + response},
		{name: "strongest", s: script{caps: "AUTH=XOAUTH2 AUTH=OAUTHBEARER SASL-IR"}, want: "AUTHENTICATE OAUTHBEARER "},
		{name: "reason", s: script{caps: "AUTH=XOAUTH2 SASL-IR", challenge: reason, login: "NO [AUTHENTICATIONFAILED] " + token}, want: "has expired", fault: deliver.FaultOperator, hint: "mailhaul login"},
		{name: "reason, then out of step", s: script{caps: "AUTH=XOAUTH2 SASL-IR", challenge: reason, login: "BAD " + response}, want: "has expired", fault: deliver.FaultOperator, hint: "mailhaul login"},
		{name: "reason, then gone", s: script{caps: "AUTH=XOAUTH2 SASL-IR", challenge: reason, login: "* BYE"}, want: "has expired", fault: deliver.FaultOperator, hint: "mailhaul login"},
		{name: "reason, by OAUTHBEARER", s: script{caps: "AUTH=OAUTHBEARER SASL-IR", challenge: reason, login: "NO no"}, want: "has expired", fault: deliver.FaultOperator, hint: "mailhaul login"},
		{name: "reason, but not for good", s: script{caps: "AUTH=XOAUTH2 SASL-IR", challenge: reason, login: "NO [UNAVAILABLE] later"}, want: "later", fault: deliver.FaultTemporary},
		{name: "reason, but too many connections", s: script{caps: "AUTH=XOAUTH2 SASL-IR", challenge: reason, login: "NO [ALERT] Too many simultaneous connections. (Failure)"}, want: "Too many", fault: deliver.FaultTemporary},
		{name: "no reason", s: script{caps: "AUTH=XOAUTH2 SASL-IR", login: "NO not " + token}, want: "not ***", fault: deliver.FaultOperator, hint: "mailhaul login"},
		{name: "not offered", s: script{caps: "AUTH=PLAIN"}, want: "PLAIN", fault: deliver.FaultOperator, hint: "password options"},
		{name: "nothing offered", s: script{}, want: "offers nothing", fault: deliver.FaultOperator, hint: "password options"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options(test.s.start(t), durable.OS, t.TempDir())
			o.Server.Security, o.Server.Secret = remote.PlainText, nil
			o.Server.Token = func(context.Context) (string, error) { return token, nil }
			_, err := open(t, o).Begin(t.Context())
			if err == nil {
				if said := test.s.commands(); test.fault != 0 || !strings.Contains(said, test.want) {
					t.Errorf("%q was said, want %q", said, test.want)
				}
				return
			}
			e, ok := errors.AsType[*deliver.Error](err)
			if !ok || e.Fault != test.fault || !strings.Contains(err.Error(), test.want) || !strings.Contains(e.Hint, test.hint) {
				t.Errorf("Begin = %v, want %q, fault %v, hint with %q; hint %q", err, test.want, test.fault, test.hint, e.Hint)
			}
			if text := err.Error(); strings.Contains(text, token) || strings.Contains(text, response[:8]) {
				t.Errorf("the token is in %v", err)
			}
		})
	}
}
