package notify_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto"
)

func command(argv ...string) *notify.Command {
	return &notify.Command{Argv: argv, Server: "work.example.com:995"}
}

// The command gets the facts in its environment and as text on standard input,
// made safe whatever a server has put into them. It does not get our environment.
func TestCommand(t *testing.T) {
	t.Setenv("MAIL_PASSWORD", "hunter2")
	out := filepath.Join(t.TempDir(), "out")
	c := command("sh", "-c", `env | grep -e ^MAILHAUL_ -e PASSWORD | LC_ALL=C sort > "$0"; cat >> "$0"`, out)
	failure := errors.New("server says: \x1b[31mno\x00\r\n\xff answer " + strings.Repeat("x", 100_000))
	failing := notify.Alert{
		Kind: notify.Failing, Since: start, LastSuccess: start.Add(-time.Hour),
		Summary: fetch.Summary{Account: "work", Err: failure, Class: fetch.ClassRetry},
	}
	refused := notify.Alert{
		Kind:    notify.Refused,
		Refused: []fetch.Refused{{UID: "a\nb", Reason: "too\tbad"}, {UID: "c", Reason: "no"}, {Reason: "bad"}},
		Summary: fetch.Summary{Account: "work", Class: fetch.ClassRefused},
	}
	notDeleted := notify.Alert{
		Kind: notify.Warned, Summary: fetch.Summary{Account: "work", NotDeleted: &pop3proto.ReplyError{Verb: "DELE", Text: "read only"}},
	}
	quoted := "server says: ?[31mno??; ? answer " + strings.Repeat("x", 1967) + "…"
	for name, test := range map[string]struct {
		alert notify.Alert
		want  string
	}{
		"failing": {failing, `MAILHAUL_ACCOUNT=work
MAILHAUL_ERROR=` + quoted + `
MAILHAUL_EVENT=failing
MAILHAUL_HINT=what was delivered is safe; the next poll goes on from there
MAILHAUL_LAST_SUCCESS=2023-11-14T21:13:20Z
MAILHAUL_REFUSED=0
MAILHAUL_RESULT=retry
MAILHAUL_SERVER=work.example.com:995
MAILHAUL_SINCE=2023-11-14T22:13:20Z
MAILHAUL_SUMMARY=work has begun to fail
work has begun to fail.

error:        ` + quoted + `
hint:         what was delivered is safe; the next poll goes on from there
since:        2023-11-14T22:13:20Z
last success: 2023-11-14T21:13:20Z
`},
		"refused": {refused, `MAILHAUL_ACCOUNT=work
MAILHAUL_ERROR=too?bad
MAILHAUL_EVENT=refused
MAILHAUL_HINT=
MAILHAUL_LAST_SUCCESS=
MAILHAUL_REFUSED=3
MAILHAUL_RESULT=refused
MAILHAUL_SERVER=work.example.com:995
MAILHAUL_SINCE=
MAILHAUL_SUMMARY=work: 3 messages were refused
work: 3 messages were refused.

message:      "a\nb": too?bad
message:      "c": no
message:      without a unique-id: bad
`},
		"not deleted": {notDeleted, `MAILHAUL_ACCOUNT=work
MAILHAUL_ERROR=server refused DELE: "read only"
MAILHAUL_EVENT=warned
MAILHAUL_HINT=the mail stays there, and is not fetched again; if this goes on, ask the server's operator, or set keep: forever
MAILHAUL_LAST_SUCCESS=
MAILHAUL_REFUSED=0
MAILHAUL_RESULT=fine
MAILHAUL_SERVER=work.example.com:995
MAILHAUL_SINCE=
MAILHAUL_SUMMARY=work: its server would not delete mail
work: its server would not delete mail.

error:        server refused DELE: "read only"
hint:         the mail stays there, and is not fetched again; if this goes on, ask the server's operator, or set keep: forever
`},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, c.Run(t.Context(), test.alert))
			got, err := os.ReadFile(out)
			check(t, err)
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A command that fails, hangs or is not there is an error that quoted so.
func TestCommandFails(t *testing.T) {
	alert := notify.Alert{Kind: notify.Recovered, Summary: fetch.Summary{Account: "work"}}
	hangs := command("sh", "-c", "sleep 600 & wait")
	hangs.Timeout = 50 * time.Millisecond
	for want, c := range map[string]*notify.Command{
		`exit status 3: "no network"`: command("sh", "-c", "echo no network >&2; exit 3"),
		"did not end within 50ms":     hangs,
		"no-such-program":             command("no-such-program"),
	} {
		if err := c.Run(t.Context(), alert); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
