package imap_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// Servers word the questions of LOGIN as they like, or leave them empty, and
// write an empty one with or without a space; those without SASL-IR ask for an
// initial response in the same way.
func TestEmptyChallenges(t *testing.T) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	login, plain := encode(user)+" "+encode(pass), encode("\x00"+user+"\x00"+pass)
	for _, caps := range []string{"", "SASL-IR "} {
		for _, test := range []struct {
			mechanism string
			asks      []string
			want      string
		}{
			{"LOGIN", []string{"+ VXNlcm5hbWU6", "+ UGFzc3dvcmQ6"}, login},
			{"LOGIN", []string{"+ ", "+ "}, login},
			{"LOGIN", []string{"+", "+ UGFzc3dvcmQ6"}, login},
			{"PLAIN", []string{"+ "}, plain},
			{"PLAIN", []string{"+"}, plain},
		} {
			t.Run(caps+test.mechanism+strings.Join(test.asks, ""), func(t *testing.T) {
				said := ""
				s := script{caps: caps + "AUTH=" + test.mechanism, exchange: func(command string, ask func(string) string) string {
					_, said, _ = strings.Cut(strings.TrimPrefix(command, "AUTHENTICATE "), " ")
					if said != "" {
						return "OK"
					}
					var all []string
					for _, challenge := range test.asks {
						all = append(all, ask(challenge))
					}
					said = strings.Join(all, " ")
					return "OK"
				}}
				o := options(s.start(t), durable.OS, t.TempDir())
				o.Server.Security = remote.PlainText
				if _, err := open(t, o).Check(t.Context()); err != nil || said != test.want {
					t.Errorf("the server heard %q, want %q: %v", said, test.want, err)
				}
			})
		}
	}
}

// A mechanism that does not accept what the server says tells it so, and does
// not leave it waiting.
func TestExchangeIsCancelled(t *testing.T) {
	var answers []string
	s := script{caps: "AUTH=SCRAM-SHA-256", exchange: func(_ string, ask func(string) string) string {
		ask("+ ")
		answers = append(answers, ask("+ bm9uc2Vuc2U="), ask("+ bm9uc2Vuc2U="))
		return "BAD"
	}}
	o := options(s.start(t), durable.OS, t.TempDir())
	o.Server.Security = remote.PlainText
	_, err := open(t, o).Check(t.Context())
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultOperator || !strings.Contains(err.Error(), "RFC 5802") {
		t.Errorf("Check = %v", err)
	}
	s.wait()
	if len(answers) != 2 || answers[0] != "*" || answers[1] != "" {
		t.Errorf("the server heard %q, want a * and then nothing", answers)
	}
}
