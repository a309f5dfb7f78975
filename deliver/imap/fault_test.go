package imap_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// only gives one answer to the n-th APPEND.
func only(n int, answer string) func(int) string {
	return func(nth int) string {
		if nth == n {
			return answer
		}
		return ""
	}
}

func always(answer string) func(int) string { return func(int) string { return answer } }

// landed and left stand for messages without an error, and without a receipt.
const landed, left = deliver.Fault(-1), deliver.Fault(-2)

// faultOf returns whose fault an error is, landed if there is none.
func faultOf(err error) deliver.Fault {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return e.Fault
	}
	return landed
}

// TestRefusals sends three messages, of which the second is 5,000 octets. What
// would meet every message is Commit's own error, and leaves it open.
func TestRefusals(t *testing.T) {
	const plus, minus = "LITERAL+ UIDPLUS", "LITERAL- UIDPLUS"
	const enough = "Account exceeded command or bandwidth limits. (Failure)"
	// large answers messages of 5,000 octets.
	large := func(answer string) func(int) string {
		return func(size int) string {
			if size > 4096 {
				return answer
			}
			return ""
		}
	}
	for _, test := range []struct {
		name   string
		s      script
		faults []deliver.Fault
		err    deliver.Fault // of Commit, landed if there is none
		text   string        // of that error, or else the second's
		hint   string
	}{
		{"none", script{caps: plus}, []deliver.Fault{landed, landed, landed}, landed, "", ""},
		{"without LITERAL+", script{}, []deliver.Fault{landed, landed, landed}, landed, "", ""},
		{"no room for one", script{caps: plus, answer: only(1, "NO [OVERQUOTA] full")},
			[]deliver.Fault{landed, deliver.FaultOperator, landed}, landed, `[OVERQUOTA] "full"`, "quota"},
		{"no room for one that waits", script{caps: minus, consent: large("NO [OVERQUOTA] full")},
			[]deliver.Fault{landed, deliver.FaultOperator, landed}, landed, `[OVERQUOTA] "full"`, "quota"},
		{"no room", script{caps: plus, answer: always("NO [OVERQUOTA] full")},
			[]deliver.Fault{left, left, left}, deliver.FaultOperator, "OVERQUOTA", "quota"},
		{"too big", script{caps: plus, answer: only(1, "NO [TOOBIG] no")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "TOOBIG", "size"},
		{"too big to be sent", script{caps: minus, consent: large("NO [TOOBIG] no")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "TOOBIG", "size"},
		{"limit", script{caps: plus + " APPENDLIMIT=4000"},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "APPENDLIMIT 4000", "size"},
		{"limit of nothing", script{caps: plus + " APPENDLIMIT=0"}, []deliver.Fault{landed, landed, landed}, landed, "", ""},
		{"limit, and no room", script{caps: plus + " APPENDLIMIT=4000", answer: always("NO [OVERQUOTA] full")},
			[]deliver.Fault{left, deliver.FaultMessage, left}, deliver.FaultOperator, "OVERQUOTA", "quota"},
		{"a code in lower case", script{caps: plus, answer: always("no [TryCreate] gone")},
			[]deliver.Fault{left, left, left}, deliver.FaultOperator, "gone", "create_folder: true"},
		{"folder gone", script{caps: plus, answer: always("NO [TRYCREATE] gone")},
			[]deliver.Fault{left, left, left}, deliver.FaultOperator, "gone", "create_folder: true"},
		{"busy", script{caps: plus, answer: only(1, "NO [INUSE] wait")},
			[]deliver.Fault{landed, left, landed}, deliver.FaultTemporary, "INUSE", ""},
		{"busy, before more was sent", script{caps: minus, consent: large("NO [UNAVAILABLE] wait")},
			[]deliver.Fault{landed, left, left}, deliver.FaultTemporary, "UNAVAILABLE", ""},
		{"no reason", script{caps: plus, answer: only(1, "NO so")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, `NO "so"`, "about this one"},
		{"no reason from then on", script{caps: plus, answer: func(n int) string {
			if n == 0 {
				return ""
			}
			return "NO so"
		}}, []deliver.Fault{landed, deliver.FaultTemporary, deliver.FaultTemporary}, landed, `NO "so"`, ""},
		{"over a limit", script{caps: plus, answer: only(1, "NO [LIMIT] too large")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "LIMIT", "about this one"},
		{"over a limit, before it was sent", script{caps: minus, consent: large("NO [LIMIT] too large")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "LIMIT", "about this one"},
		{"over a limit for all", script{caps: plus, answer: always("NO [LIMIT] too often")},
			[]deliver.Fault{left, left, left}, deliver.FaultTemporary, "LIMIT", ""},
		{"as much as Gmail takes in a day", script{caps: plus, answer: only(1, "NO [OVERQUOTA] "+enough)},
			[]deliver.Fault{landed, left, landed}, deliver.FaultTemporary, enough, "a later fetch brings the rest"},
		{"the same without its code", script{caps: plus, answer: only(1, "NO [ALERT] "+enough)},
			[]deliver.Fault{landed, left, landed}, deliver.FaultTemporary, enough, "a later fetch brings the rest"},
		{"bad", script{caps: plus, answer: only(1, "BAD what")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, `BAD "what"`, "about this one"},
		{"no reason for all", script{caps: plus, answer: always("NO so")},
			[]deliver.Fault{left, left, left}, deliver.FaultTemporary, `NO "so"`, ""},
		{"long text", script{caps: plus, answer: only(1, "NO "+strings.Repeat("x", 10_000)+"{5000}")},
			[]deliver.Fault{landed, deliver.FaultMessage, landed}, landed, "xxx", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, options(test.s.start(t), durable.OS, t.TempDir()))
			b, _ := stage(t, s, "Subject: a\r\n\r\n", "Subject: b\r\n\r\n"+strings.Repeat("x", 5000)+"\r\n", "Subject: c\r\n\r\n")
			receipts, err := commit(t.Context(), b)
			if got := faultOf(err); got != test.err {
				t.Errorf("Commit: fault %d, want %d: %v", got, test.err, err)
			}
			if e, ok := errors.AsType[*deliver.Error](err); ok && (!e.Untaken || e.Blameless) {
				t.Errorf("Commit: %v: untaken is %v, blameless %v", err, e.Untaken, e.Blameless)
			}
			for n, want := range test.faults {
				r, reported := receipts[deliver.Ticket(n)]
				got := left
				if reported {
					got = faultOf(r.Err)
				}
				if got != want {
					t.Errorf("message %d: fault %d, want %d: %v", n, got, want, r.Err)
				}
			}
			if err == nil {
				err = receipts[1].Err
			}
			if e, ok := errors.AsType[*deliver.Error](err); ok {
				if !strings.Contains(e.Error(), test.text) || len(e.Error()) > 500 || !strings.Contains(e.Hint, test.hint) {
					t.Errorf("error %q, hint %q", e, e.Hint)
				}
			}
		})
	}
}

// TestRefusalOfOne sends a single message, which may be the reason itself.
func TestRefusalOfOne(t *testing.T) {
	for answer, itself := range map[string]bool{
		"NO so":                true,
		"NO [LIMIT] too large": true,
		"NO [OVERQUOTA] full":  false,
		"NO [INUSE] wait":      false,
	} {
		script := script{caps: "LITERAL+ UIDPLUS", answer: always(answer)}
		b, _ := stage(t, open(t, options(script.start(t), durable.OS, t.TempDir())), "Subject: a\r\n\r\n")
		receipts, err := commit(t.Context(), b)
		if reported := len(receipts) == 1 && receipts[0].Err != nil; reported != itself || (err == nil) != itself {
			t.Errorf("%s: %+v, %v", answer, receipts, err)
		}
	}
}

// TestFull sends ever smaller and ever larger messages to a mailbox that has no
// room: what is larger than one that did not fit is not even sent.
func TestFull(t *testing.T) {
	script := script{caps: "LITERAL-", consent: func(size int) string {
		if size > 100 {
			return "NO [OVERQUOTA] full"
		}
		return ""
	}}
	b, _ := stage(t, open(t, options(script.start(t), durable.OS, t.TempDir())),
		letter("a", 9000), letter("b", 9000), letter("c", 5000), letter("d", 7000), letter("e", 1), letter("f", 5000))
	receipts, err := commit(t.Context(), b)
	if err != nil || len(receipts) != 6 || receipts[4].Err != nil {
		t.Errorf("%+v, %v", receipts, err)
	}
	if n := strings.Count(script.commands(), "APPEND"); n != 3 {
		t.Errorf("%d messages were sent", n)
	}
}

// TestBroken has the server fail over the second of three messages. What was
// not reported stays promised, and nothing waits for ever.
func TestBroken(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		check        func(error) bool
	}{
		// A server that has not read all hangs up with a reset.
		{"hang up", hangUp, func(err error) bool {
			return strings.Contains(err.Error(), "closed the connection") || errors.Is(err, syscall.ECONNRESET)
		}},
		{"bye", "* BYE so long", func(err error) bool { return strings.Contains(err.Error(), "so long") }},
		{"nonsense", "* \x00(((", func(err error) bool { return strings.Contains(err.Error(), "out of step") }},
		{"endless", "* OK " + strings.Repeat("x", 17<<20), func(err error) bool { return strings.Contains(err.Error(), "endless") }},
		{"without end", strings.Repeat("* OK "+strings.Repeat("x", 8<<20)+"\r\n", 4) + "* OK", func(err error) bool { return strings.Contains(err.Error(), "endless") }},
		{"hang", hang, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := script{caps: "LITERAL+ UIDPLUS"}
			script.answer = func(n int) string {
				if n == 0 {
					return ""
				}
				return test.answer
			}
			if strings.HasPrefix(test.answer, "* BYE") {
				script.answer = func(n int) string { return []string{"", test.answer, hangUp}[n] }
			}
			o := options(script.start(t), durable.OS, t.TempDir())
			if test.answer == hang {
				o.Server.Timeout = 2 * time.Second
			}
			b, _ := stage(t, open(t, o), "Subject: a\r\n\r\n", "Subject: b\r\n\r\n", "Subject: c\r\n\r\n")
			receipts, err := commit(t.Context(), b)
			if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || e.Untaken || !test.check(err) || len(err.Error()) > 500 {
				t.Errorf("Commit = %v", err)
			}
			if len(receipts) > 1 || len(receipts) == 1 && receipts[0].Err != nil {
				t.Errorf("receipts %+v", receipts)
			}
		})
	}
}

// TestCommitContext cancels while the server hangs.
func TestCommitContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	script := script{caps: "LITERAL+", answer: func(int) string { cancel(enough); return hang }}
	s := open(t, options(script.start(t), durable.OS, t.TempDir()))
	b, _ := stage(t, s, "Subject: a\r\n\r\n")
	if receipts, err := commit(ctx, b); !errors.Is(err, enough) || len(receipts) != 0 {
		t.Errorf("%v, %v", receipts, err)
	}
}

// plainResponse is what PLAIN sends (RFC 4616 §2), in base64.
var plainResponse = base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + pass))

// TestLogin covers how a session begins.
func TestLogin(t *testing.T) {
	for _, test := range []struct {
		name   string
		s      script
		starts remote.Security
		want   string // in the error, or in what was said if there is none
		fault  deliver.Fault
	}{
		{name: "SASL", s: script{caps: "AUTH=PLAIN SASL-IR"}, starts: remote.PlainText, want: "AUTHENTICATE PLAIN AG"},
		{name: "LOGIN", starts: remote.PlainText, want: "LOGIN \"me@example.org\" "},
		{name: "LOGINDISABLED", s: script{caps: "LOGINDISABLED"}, starts: remote.PlainText, want: "offers nothing", fault: deliver.FaultOperator},
		{name: "wrong password", s: script{login: "NO [AUTHENTICATIONFAILED] not " + pass}, starts: remote.PlainText, want: "AUTHENTICATIONFAILED", fault: deliver.FaultOperator},
		{name: "echo in base64", s: script{caps: "AUTH=PLAIN SASL-IR", login: "NO you said " + plainResponse}, starts: remote.PlainText, want: "you said", fault: deliver.FaultOperator},
		{name: "echo in a farewell", s: script{login: "* BYE not " + pass}, starts: remote.PlainText, want: "closed the connection", fault: deliver.FaultTemporary},
		{name: "echo in nonsense", s: script{caps: "AUTH=PLAIN SASL-IR", login: plainResponse}, starts: remote.PlainText, want: "out of step", fault: deliver.FaultTemporary},
		{name: "echo cut short", s: script{login: "NO " + strings.Repeat("x", 195) + pass}, starts: remote.PlainText, want: "xxx", fault: deliver.FaultOperator},
		{name: "echo", s: script{login: "BAD LOGIN me " + pass}, starts: remote.PlainText, want: "BAD", fault: deliver.FaultOperator},
		{name: "busy", s: script{login: "NO [UNAVAILABLE] later"}, starts: remote.PlainText, want: "later", fault: deliver.FaultTemporary},
		{name: "too many connections", s: script{login: "NO [LIMIT] too many"}, starts: remote.PlainText, want: "too many", fault: deliver.FaultTemporary},
		{name: "as much as Gmail takes in a day", s: script{login: "NO [ALERT] Account exceeded command or bandwidth limits. (Failure)"}, starts: remote.PlainText, want: "bandwidth", fault: deliver.FaultTemporary},
		{name: "too many connections, in words", s: script{login: "NO [ALERT] Too many simultaneous connections. (Failure)"}, starts: remote.PlainText, want: "Too many", fault: deliver.FaultTemporary},
		{name: "bye", s: script{greeting: "* BYE too many"}, starts: remote.PlainText, want: "too many", fault: deliver.FaultTemporary},
		{name: "preauth", s: script{greeting: "* PREAUTH hello"}, starts: remote.PlainText, want: "CAPABILITY"},
		{name: "preauth before TLS", s: script{greeting: "* PREAUTH hello"}, starts: remote.StartTLS, want: "STARTTLS", fault: deliver.FaultOperator},
		{name: "no STARTTLS", s: script{}, starts: remote.StartTLS, want: "no TLS here", fault: deliver.FaultOperator},
		{name: "no folder", s: script{folder: func() bool { return false }}, starts: remote.PlainText, want: "NONEXISTENT", fault: deliver.FaultOperator},
		{name: "no folder, without a code", s: script{replies: map[string]string{"STATUS": "NO not so"}, listed: `() "/" INBOX2`}, starts: remote.PlainText, want: `NO "not so"`, fault: deliver.FaultOperator},
		{name: "folder busy", s: script{replies: map[string]string{"STATUS": "NO not now"}, listed: `() "/" INBOX`}, starts: remote.PlainText, want: `NO "not now"`, fault: deliver.FaultTemporary},
		{name: "folder busy, and no list", s: script{replies: map[string]string{"STATUS": "NO not now", "LIST": "NO not now"}}, starts: remote.PlainText, want: `NO "not now"`, fault: deliver.FaultTemporary},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := options(test.s.start(t), durable.OS, t.TempDir())
			o.Server.Security = test.starts
			_, err := open(t, o).Begin(t.Context())
			if err == nil {
				if said := test.s.commands(); !strings.Contains(said, test.want) {
					t.Errorf("%q was said, want %q", said, test.want)
				}
				return
			}
			e, ok := errors.AsType[*deliver.Error](err)
			if !ok || e.Fault != test.fault || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Begin = %v, fault %v, want %q, %v", err, e.Fault, test.want, test.fault)
			}
			if e.Fault == deliver.FaultOperator && e.Hint == "" {
				t.Errorf("no hint: %v", err)
			}
			if text := err.Error(); strings.Contains(text, "s3") || strings.Contains(text, plainResponse[:8]) {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// TestCutSpool takes the last two octets of a message out of the spool: as many
// as end a command. The sink reads 32 KiB at once, so that nothing else is
// missing of some of these.
func TestCutSpool(t *testing.T) {
	for _, caps := range []string{"", "LITERAL- UIDPLUS", "LITERAL+ UIDPLUS"} {
		for _, size := range []int{1000, 10_000, 32<<10 + 2, 64<<10 + 2} {
			t.Run(fmt.Sprintf("%s, %d octets", caps, size), func(t *testing.T) {
				script := script{caps: caps}
				dir := t.TempDir()
				s := open(t, options(script.start(t), durable.OS, dir))
				b, _ := stage(t, s, letter("a", 1), letter("b", size-len(letter("b", 0))))
				files, _ := filepath.Glob(filepath.Join(dir, "spool", "*"))
				if len(files) != 1 {
					t.Fatalf("the spool holds %q", files)
				}
				fi, err := os.Stat(files[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(files[0], fi.Size()-2); err != nil {
					t.Fatal(err)
				}
				if _, err := commit(t.Context(), b); err == nil {
					t.Error("Commit did not notice")
				}
				s.Close()
				script.wait()
				if len(script.took) > 1 {
					t.Errorf("the server took %q", script.took[1:])
				}
			})
		}
	}
}

// TestRefusalOfAnother has the server refuse a literal while it has not
// answered the message before: of that, nothing is known.
func TestRefusalOfAnother(t *testing.T) {
	script := script{caps: "LITERAL-", answer: always(hang), consent: func(size int) string {
		if size > 4096 {
			return "NO [TOOBIG] no"
		}
		return ""
	}}
	b, _ := stage(t, open(t, options(script.start(t), durable.OS, t.TempDir())), letter("a", 1), letter("b", 5000))
	receipts, err := commit(t.Context(), b)
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || e.Untaken {
		t.Errorf("Commit = %v", err)
	}
	if _, reported := receipts[0]; reported || receipts[1].Err == nil {
		t.Errorf("receipts %+v", receipts)
	}
}
