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
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// answerOnly returns a script that gives an answer to the n-th APPEND, from 0.
func answerOnly(n int, answer string) func(int) string {
	return func(nth int) string {
		if nth == n {
			return answer
		}
		return ""
	}
}

// answerAlways returns a script that gives an answer to every APPEND.
func answerAlways(answer string) func(int) string { return func(int) string { return answer } }

// landed and unreported stand in tables of faults for a message that landed and for one
// without a receipt.
const landed, unreported = delivertest.NoFault, deliver.Fault(-2)

// TestRefusals sends three messages; the second is larger than 5,000 octets. A refusal that
// is not about one message is the error of Commit, and the messages get no receipt.
func TestRefusals(t *testing.T) {
	const plus, minus = "LITERAL+ UIDPLUS", "LITERAL- UIDPLUS"
	const enough = "Account exceeded command or bandwidth limits. (Failure)"
	// large gives an answer to the second message.
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
		err    deliver.Fault // of Commit
		text   string        // of that error; without one, of that of the second message
		hint   string
	}{
		{name: "none", s: script{caps: plus}, faults: []deliver.Fault{landed, landed, landed}, err: landed},
		{name: "without LITERAL+", s: script{}, faults: []deliver.Fault{landed, landed, landed}, err: landed},
		{name: "no room for one", s: script{caps: plus, answer: answerOnly(1, "NO [OVERQUOTA] full")}, faults: []deliver.Fault{landed, deliver.FaultOperator, landed}, err: landed, text: `[OVERQUOTA] "full"`, hint: "quota"},
		{name: "no room for one that waits", s: script{caps: minus, consent: large("NO [OVERQUOTA] full")}, faults: []deliver.Fault{landed, deliver.FaultOperator, landed}, err: landed, text: `[OVERQUOTA] "full"`, hint: "quota"},
		{name: "no room", s: script{caps: plus, answer: answerAlways("NO [OVERQUOTA] full")}, faults: []deliver.Fault{unreported, unreported, unreported}, err: deliver.FaultOperator, text: "OVERQUOTA", hint: "quota"},
		{name: "too big", s: script{caps: plus, answer: answerOnly(1, "NO [TOOBIG] no")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "TOOBIG", hint: "size"},
		{name: "too big to be sent", s: script{caps: minus, consent: large("NO [TOOBIG] no")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "TOOBIG", hint: "size"},
		{name: "limit", s: script{caps: plus + " APPENDLIMIT=4000"}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "APPENDLIMIT 4000", hint: "size"},
		{name: "limit of nothing", s: script{caps: plus + " APPENDLIMIT=0"}, faults: []deliver.Fault{landed, landed, landed}, err: landed},
		{name: "limit, and no room", s: script{caps: plus + " APPENDLIMIT=4000", answer: answerAlways("NO [OVERQUOTA] full")}, faults: []deliver.Fault{unreported, deliver.FaultMessage, unreported}, err: deliver.FaultOperator, text: "OVERQUOTA", hint: "quota"},
		{name: "a code in lower case", s: script{caps: plus, answer: answerAlways("no [TryCreate] gone")}, faults: []deliver.Fault{unreported, unreported, unreported}, err: deliver.FaultOperator, text: "gone", hint: "create_folder: true"},
		{name: "folder gone", s: script{caps: plus, answer: answerAlways("NO [TRYCREATE] gone")}, faults: []deliver.Fault{unreported, unreported, unreported}, err: deliver.FaultOperator, text: "gone", hint: "create_folder: true"},
		{name: "busy", s: script{caps: plus, answer: answerOnly(1, "NO [INUSE] wait")}, faults: []deliver.Fault{landed, unreported, landed}, err: deliver.FaultTemporary, text: "INUSE"},
		{name: "busy, before more was sent", s: script{caps: minus, consent: large("NO [UNAVAILABLE] wait")}, faults: []deliver.Fault{landed, unreported, unreported}, err: deliver.FaultTemporary, text: "UNAVAILABLE"},
		{name: "no reason", s: script{caps: plus, answer: answerOnly(1, "NO so")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: `NO "so"`, hint: "about this one"},
		{name: "no reason from then on", s: script{caps: plus, answer: func(n int) string {
			if n == 0 {
				return ""
			}
			return "NO so"
		}}, faults: []deliver.Fault{landed, deliver.FaultTemporary, deliver.FaultTemporary}, err: landed, text: `NO "so"`},
		{name: "over a limit", s: script{caps: plus, answer: answerOnly(1, "NO [LIMIT] too large")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "LIMIT", hint: "about this one"},
		{name: "over a limit, before it was sent", s: script{caps: minus, consent: large("NO [LIMIT] too large")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "LIMIT", hint: "about this one"},
		{name: "over a limit for all", s: script{caps: plus, answer: answerAlways("NO [LIMIT] too often")}, faults: []deliver.Fault{unreported, unreported, unreported}, err: deliver.FaultTemporary, text: "LIMIT"},
		{name: "as much as Gmail takes in a day", s: script{caps: plus, answer: answerOnly(1, "NO [OVERQUOTA] "+enough)}, faults: []deliver.Fault{landed, unreported, landed}, err: deliver.FaultTemporary, text: enough, hint: "a later fetch brings the rest"},
		{name: "the same without its code", s: script{caps: plus, answer: answerOnly(1, "NO [ALERT] "+enough)}, faults: []deliver.Fault{landed, unreported, landed}, err: deliver.FaultTemporary, text: enough, hint: "a later fetch brings the rest"},
		{name: "bad", s: script{caps: plus, answer: answerOnly(1, "BAD what")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: `BAD "what"`, hint: "about this one"},
		{name: "no reason for all", s: script{caps: plus, answer: answerAlways("NO so")}, faults: []deliver.Fault{unreported, unreported, unreported}, err: deliver.FaultTemporary, text: `NO "so"`},
		{name: "long text", s: script{caps: plus, answer: answerOnly(1, "NO "+strings.Repeat("x", 10_000)+"{5000}")}, faults: []deliver.Fault{landed, deliver.FaultMessage, landed}, err: landed, text: "xxx"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, options(test.s.start(t), durable.OS, t.TempDir()))
			b, _ := stage(t, s, "Subject: a\r\n\r\n", "Subject: b\r\n\r\n"+strings.Repeat("x", 5000)+"\r\n", "Subject: c\r\n\r\n")
			receipts, err := commit(t.Context(), b)
			if got := delivertest.FaultOf(err); got != test.err {
				t.Errorf("Commit: fault %d, want %d: %v", got, test.err, err)
			}
			if e, ok := errors.AsType[*deliver.Error](err); ok && (!e.Untaken || e.Blameless) {
				t.Errorf("Commit: %v: untaken is %v, blameless %v", err, e.Untaken, e.Blameless)
			}
			for n, want := range test.faults {
				r, reported := receipts[deliver.Ticket(n)]
				got := unreported
				if reported {
					got = delivertest.FaultOf(r.Err)
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

// TestRefusalOfOne sends a single message. Some refusals are about that message itself.
func TestRefusalOfOne(t *testing.T) {
	for answer, ofMessage := range map[string]bool{
		"NO so":                true,
		"NO [LIMIT] too large": true,
		"NO [OVERQUOTA] full":  false,
		"NO [INUSE] wait":      false,
	} {
		script := script{caps: "LITERAL+ UIDPLUS", answer: answerAlways(answer)}
		b, _ := stage(t, open(t, options(script.start(t), durable.OS, t.TempDir())), "Subject: a\r\n\r\n")
		receipts, err := commit(t.Context(), b)
		if reported := len(receipts) == 1 && receipts[0].Err != nil; reported != ofMessage || (err == nil) != ofMessage {
			t.Errorf("%s: %+v, %v", answer, receipts, err)
		}
	}
}

// TestFull sends messages of several sizes to a mailbox without room. A message that is not
// smaller than one that was refused is not sent.
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

// TestConnectionBroken has the server fail at the second of three messages. That message and
// the next get no receipt, and Commit does not hang.
func TestConnectionBroken(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		check        func(error) bool
	}{
		// A server that has not read all hangs up with a reset.
		{name: "hang up", answer: hangUp, check: func(err error) bool {
			return strings.Contains(err.Error(), "closed the connection") || errors.Is(err, syscall.ECONNRESET)
		}},
		{name: "bye", answer: "* BYE so long", check: func(err error) bool { return strings.Contains(err.Error(), "so long") }},
		{name: "nonsense", answer: "* \x00(((", check: func(err error) bool { return strings.Contains(err.Error(), "out of step") }},
		{name: "endless", answer: "* OK " + strings.Repeat("x", 17<<20), check: func(err error) bool { return strings.Contains(err.Error(), "endless") }},
		{name: "without end", answer: strings.Repeat("* OK "+strings.Repeat("x", 8<<20)+"\r\n", 4) + "* OK", check: func(err error) bool { return strings.Contains(err.Error(), "endless") }},
		{name: "hang", answer: hang, check: func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
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

// TestCommitContext cancels the context of Commit while the server hangs.
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

// TestLogin checks the beginning of a session: the greeting, the login and the folder.
func TestLogin(t *testing.T) {
	for _, test := range []struct {
		name   string
		s      script
		starts remote.Security
		want   string // in the error; without one, in the commands
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
				if got := test.s.commands(); !strings.Contains(got, test.want) {
					t.Errorf("the client sent %q, want %q", got, test.want)
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

// TestTruncatedSpool removes the last two octets of a message from the spool, as many as the
// CRLF after a literal has. The sink reads 32 KiB at once, so that for some sizes only the
// last read is short.
func TestTruncatedSpool(t *testing.T) {
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

// TestRefusalBeforeAnswer has the server refuse a literal before it has answered the message
// before. That message gets no receipt.
func TestRefusalBeforeAnswer(t *testing.T) {
	script := script{caps: "LITERAL-", answer: answerAlways(hang), consent: func(size int) string {
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
