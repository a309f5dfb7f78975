package notify_test

import (
	"context"
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

// The facts are in the environment and, as text, on standard input, whatever
// bytes a server has put into them; our own environment is not.
func TestCommand(t *testing.T) {
	t.Setenv("MAIL_PASSWORD", "hunter2")
	out := filepath.Join(t.TempDir(), "out")
	c := command("sh", "-c", `env | grep -e ^MAILHAUL_ -e PASSWORD | LC_ALL=C sort > "$0"; cat >> "$0"`, out)
	failure := errors.New("server says: \x1b[31mno\x00\r\n\xff answer " + strings.Repeat("x", 100_000))
	failing := notify.News{
		Kind: notify.Failing, Since: start, LastSuccess: start.Add(-time.Hour),
		Summary: fetch.Summary{Account: "work", Err: failure, Class: fetch.ClassRetry},
	}
	refused := notify.News{
		Kind:    notify.Refused,
		Refused: []fetch.Refused{{UID: "a\nb", Reason: "too\tbad"}, {UID: "c", Reason: "no"}, {Reason: "bad"}},
		Summary: fetch.Summary{Account: "work", Class: fetch.ClassRefused},
	}
	kept := notify.News{
		Kind: notify.Warned, Summary: fetch.Summary{Account: "work", NotDeleted: &pop3proto.ReplyError{Verb: "DELE", Text: "read only"}},
	}
	says := "server says: ?[31mno??; ? answer " + strings.Repeat("x", 1967) + "…"
	for name, test := range map[string]struct {
		news notify.News
		want string
	}{
		"failing": {failing, `MAILHAUL_ACCOUNT=work
MAILHAUL_ERROR=` + says + `
MAILHAUL_EVENT=failing
MAILHAUL_HINT=what was delivered is safe; the next poll goes on from there
MAILHAUL_LAST_SUCCESS=2023-11-14T21:13:20Z
MAILHAUL_REFUSED=0
MAILHAUL_RESULT=retry
MAILHAUL_SERVER=work.example.com:995
MAILHAUL_SINCE=2023-11-14T22:13:20Z
MAILHAUL_SUMMARY=work has begun to fail
work has begun to fail.

error:        ` + says + `
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
		"not deleted": {kept, `MAILHAUL_ACCOUNT=work
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
			check(t, c.Run(t.Context(), test.news))
			got, err := os.ReadFile(out)
			check(t, err)
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A command that fails, hangs or is not there is an error that says so.
func TestCommandFails(t *testing.T) {
	n := notify.News{Kind: notify.Recovered, Summary: fetch.Summary{Account: "work"}}
	hangs := command("sh", "-c", "sleep 600 & wait")
	hangs.Timeout = 50 * time.Millisecond
	for want, c := range map[string]*notify.Command{
		`exit status 3: "no network"`: command("sh", "-c", "echo no network >&2; exit 3"),
		"did not end within 50ms":     hangs,
		"no-such-program":             command("no-such-program"),
	} {
		if err := c.Run(t.Context(), n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// News is told in order, by one goroutine; a teller that hangs holds up
// nobody, and what Close gives up on was not told.
func TestQueue(t *testing.T) {
	began := make(chan string)
	var told []string
	q := notify.NewQueue(t.Context(), func(ctx context.Context, n notify.News) error {
		began <- n.Summary.Account
		if n.Summary.Account == "hangs" {
			<-ctx.Done()
		}
		return ctx.Err()
	}, func(n notify.News, err error) {
		told = append(told, n.Summary.Account)
		if err != nil {
			t.Error(err)
		}
	})
	for _, account := range []string{"a", "b", "hangs", "c"} {
		q.Add(notify.News{Summary: fetch.Summary{Account: account}})
	}
	for _, want := range []string{"a", "b", "hangs"} {
		if got := <-began; got != want {
			t.Errorf("%s is told of, want %s", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.Close(ctx)
	q.Add(notify.News{}) // which is too late
	if diff := cmp.Diff([]string{"a", "b"}, told); diff != "" {
		t.Error(diff)
	}
}

// Close waits for all that is queued.
func TestQueueClose(t *testing.T) {
	told := 0
	failure := errors.New("no")
	q := notify.NewQueue(t.Context(), func(context.Context, notify.News) error { return failure },
		func(_ notify.News, err error) {
			if err == failure {
				told++
			}
		})
	for range 100 {
		q.Add(notify.News{})
	}
	q.Close(t.Context())
	if told != 100 {
		t.Errorf("%d of 100 were told", told)
	}
}
