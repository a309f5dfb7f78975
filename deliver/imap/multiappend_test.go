package imap_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
)

// multiAppend are the capabilities for several messages in one APPEND (RFC 3502).
const multiAppend = "LITERAL+ UIDPLUS MULTIAPPEND"

// fiveMessages returns messages of more than 4,096 octets in all.
func fiveMessages() []string {
	list := make([]string, 5)
	for i := range list {
		list[i] = fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", 1000))
	}
	return list
}

// refuseSubject returns a function that returns an answer if the subject of one of the texts
// begins with subject, and otherwise accepts them.
func refuseSubject(subject, answer string) func(texts ...string) string {
	return func(texts ...string) string {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, "Subject: "+subject) }) {
			return answer
		}
		return ""
	}
}

// TestMultiAppend sends five messages in one APPEND. If it is refused, they are sent one by
// one.
func TestMultiAppend(t *testing.T) {
	all := func(f deliver.Fault) []deliver.Fault { return []deliver.Fault{f, f, f, f, f} }
	but := func(f deliver.Fault) []deliver.Fault { return []deliver.Fault{landed, landed, f, landed, landed} }
	for _, test := range []struct {
		name    string
		caps    string
		no      func(texts ...string) string
		faults  []deliver.Fault
		err     deliver.Fault // of Commit
		appends int           // commands
	}{
		{name: "taken", caps: multiAppend, no: refuseSubject("none", ""), faults: all(landed), err: landed, appends: 1},
		{name: "without MULTIAPPEND", caps: "LITERAL+ UIDPLUS", no: refuseSubject("none", ""), faults: all(landed), err: landed, appends: 5},
		{name: "without LITERAL+", caps: "UIDPLUS MULTIAPPEND", no: refuseSubject("none", ""), faults: all(landed), err: landed, appends: 5},
		{name: "without UIDPLUS", caps: "LITERAL+ MULTIAPPEND", no: refuseSubject("none", ""), faults: all(landed), err: landed, appends: 5},
		{name: "one refused", caps: multiAppend, no: refuseSubject("2", "NO so"), faults: but(deliver.FaultMessage), err: landed, appends: 6},
		{name: "one too big", caps: multiAppend, no: refuseSubject("2", "NO [TOOBIG] no"), faults: but(deliver.FaultMessage), err: landed, appends: 6},
		{name: "no room", caps: multiAppend, no: refuseSubject("", "NO [OVERQUOTA] full"), faults: all(unreported), err: deliver.FaultOperator, appends: 6},
		{name: "no room for all", caps: multiAppend, no: func(texts ...string) string {
			if len(texts) > 1 {
				return "NO [OVERQUOTA] full"
			}
			return ""
		}, faults: all(landed), err: landed, appends: 6},
		{name: "gone", caps: multiAppend, no: refuseSubject("", "NO [TRYCREATE] gone"), faults: all(unreported), err: deliver.FaultOperator, appends: 6},
		{name: "too much", caps: multiAppend, no: func(texts ...string) string {
			if len(texts) > 1 {
				return "NO [LIMIT] too much"
			}
			return ""
		}, faults: all(landed), err: landed, appends: 6},
		{name: "refused without a reason", caps: multiAppend, no: refuseSubject("", "NO so"), faults: all(unreported), err: deliver.FaultTemporary, appends: 6},
		{name: "hung up", caps: multiAppend, no: refuseSubject("", hangUp), faults: all(unreported), err: deliver.FaultTemporary, appends: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s script
			s = script{caps: test.caps, uids: true, answerMulti: func(texts []string) string { return test.no(texts...) }, answer: func(int) string {
				s.mu.Lock()
				defer s.mu.Unlock()
				return test.no(s.last)
			}}
			sink := open(t, options(s.start(t), durable.OS, t.TempDir()))
			b, _ := stage(t, sink, fiveMessages()...)
			receipts, err := commit(t.Context(), b)
			if got := delivertest.FaultOf(err); got != test.err {
				t.Errorf("Commit: fault %d, want %d: %v", got, test.err, err)
			}
			for n, want := range test.faults {
				got := unreported
				if r, reported := receipts[deliver.Ticket(n)]; reported {
					got = delivertest.FaultOf(r.Err)
				}
				if got != want {
					t.Errorf("message %d: fault %d, want %d", n, got, want)
				}
			}
			if n := strings.Count(s.commands(), "APPEND"); n != test.appends {
				t.Errorf("%d commands, want %d", n, test.appends)
			}
		})
	}
}

// TestMultiAppendUIDs reads the UIDs of several messages. If their number is not that of the
// messages, the server may not have all, and Commit fails.
func TestMultiAppendUIDs(t *testing.T) {
	for set, want := range map[string][]string{
		"[APPENDUID 7 3:7]":           {"3", "4", "5", "6", "7"},
		"[APPENDUID 7 3,5,7:9]":       {"3", "5", "7", "8", "9"},
		"[APPENDUID 7 3,4,5,6,70]":    {"3", "4", "5", "6", "70"},
		"[APPENDUID 7 3:6]":           nil,
		"[APPENDUID 7 3:8]":           nil,
		"[APPENDUID 7 3]":             nil,
		"[APPENDUID 7 1:4294967295]":  nil,
		"[APPENDUID 7 3:99999999999]": nil,
		"[APPENDUID 7 7:3]":           nil,
		"[APPENDUID 7 3:4,,5:7]":      nil,
		"[APPENDUID 7 1:5,6:7]":       nil,
		"":                            nil,
	} {
		s := script{caps: multiAppend + " IMAP4rev2", answerMulti: func([]string) string { return "OK " + set + " done" }}
		o := options(s.start(t), durable.OS, t.TempDir())
		sink := open(t, o)
		b, _ := stage(t, sink, fiveMessages()...)
		receipts, err := commit(t.Context(), b)
		if fewer := want == nil && set != ""; (err != nil) != fewer || len(receipts) != 5 && !fewer || len(receipts) != 0 && fewer {
			t.Fatalf("%s: %+v, %v", set, receipts, err)
		}
		asked := strings.Count(s.commands(), "STATUS")
		for n := range len(receipts) {
			place := "imap://" + user + "@" + o.Server.Addr + "/INBOX"
			if want != nil {
				place += ";UIDVALIDITY=7/;UID=" + want[n]
			}
			if got := receipts[deliver.Ticket(n)].Where; got != place {
				t.Errorf("%s: message %d is at %s, want %s", set, n, got, place)
			}
		}
		if _, promises := stage(t, sink, "Subject: next\r\n\r\n"); len(promises) != 1 {
			t.Fatalf("%s: %+v", set, promises)
		}
		// Begin asks for the STATUS once. Prepare asks again if the UIDs are unknown.
		if n := strings.Count(s.commands(), "STATUS") - asked - 1; (n > 0) != (want == nil) {
			t.Errorf("%s: the folder was looked at %d times more", set, n)
		}
	}
}

// TestMultiAppendFlags checks the flags and dates before each message.
func TestMultiAppendFlags(t *testing.T) {
	s := script{caps: multiAppend, answerMulti: func([]string) string { return "" }}
	o := options(s.start(t), durable.OS, t.TempDir())
	o.Flags = []string{`\Seen`, "$Forwarded"}
	messages := fiveMessages()
	messages[1] = "Date: Sun, 1 Feb 2026 10:00:00 +0100\r\n" + messages[1]
	put(t, open(t, o), messages...)
	if got := s.commands(); !strings.Contains(got, `APPEND INBOX (\Seen $Forwarded) " 1-Mar-2026 12:00:00 +0000" {1016+}`) {
		t.Errorf("the client sent\n%s", got)
	}
	if want := ` (\Seen $Forwarded) " 1-Feb-2026 09:00:00 +0000" {1054+}`; s.head[0] != want {
		t.Errorf("the second message has %q, want %q", s.head[0], want)
	}
	if want := ` (\Seen $Forwarded) " 1-Mar-2026 12:00:00 +0000" {1016+}`; s.head[1] != want {
		t.Errorf("the third message has %q, want %q", s.head[1], want)
	}
	if !slices.Equal(s.took, messages) {
		t.Errorf("the server got %q", s.took)
	}
}

// TestMultiAppendRefused has a server refuse an APPEND of several messages. After BAD or
// [LIMIT] the sink does not try another; after other refusals it does.
func TestMultiAppendRefused(t *testing.T) {
	for answer, appends := range map[string]int{"BAD what": 1 + 5 + 5, "NO [LIMIT] too much": 1 + 5 + 5, "NO so": 1 + 5 + 1} {
		refused := false
		s := script{caps: multiAppend, uids: true, answerMulti: func([]string) string {
			if refused {
				return ""
			}
			refused = true
			return answer
		}}
		sink := open(t, options(s.start(t), durable.OS, t.TempDir()))
		put(t, sink, fiveMessages()...)
		put(t, sink, fiveMessages()...)
		if n := strings.Count(s.commands(), "APPEND"); n != appends || len(s.took) != 10 {
			t.Errorf("%s: %d commands, want %d; %d messages", answer, n, appends, len(s.took))
		}
	}
}

// TestMultiAppendPartlyStored has a server store some of the messages that it refuses. They
// are not sent again before Settle finds out which.
func TestMultiAppendPartlyStored(t *testing.T) {
	var s script
	s = script{caps: multiAppend, uids: true, answerMulti: func(texts []string) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kept += 2
		return "NO [OVERQUOTA] full"
	}}
	b, _ := stage(t, open(t, options(s.start(t), durable.OS, t.TempDir())), fiveMessages()...)
	receipts, err := commit(t.Context(), b)
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || e.Untaken || len(receipts) > 0 {
		t.Errorf("Commit = %v, %+v", err, receipts)
	}
	if n := strings.Count(s.commands(), "APPEND"); n != 1 {
		t.Errorf("%d commands", n)
	}
}

// TestMultiAppendWithoutUIDs has a server that offers UIDPLUS but sends no APPENDUID. From
// then on messages are sent one by one, since it would not be seen which of several that
// it refuses it has stored.
func TestMultiAppendWithoutUIDs(t *testing.T) {
	s := script{caps: multiAppend, answerMulti: func([]string) string { return "" }, answer: func(int) string { return "" }}
	sink := open(t, options(s.start(t), durable.OS, t.TempDir()))
	for _, want := range []int{1, 6} {
		b, _ := stage(t, sink, fiveMessages()...)
		if receipts, err := commit(t.Context(), b); len(receipts) != 5 || err != nil {
			t.Errorf("%d receipts, %v", len(receipts), err)
		}
		if n := strings.Count(s.commands(), "APPEND"); n != want {
			t.Errorf("%d commands, want %d", n, want)
		}
	}
}

// TestMultiAppendAfterRefusal checks that after a refused APPEND the messages behind it are
// again sent together.
func TestMultiAppendAfterRefusal(t *testing.T) {
	var s script
	var sent []int
	s = script{caps: multiAppend, uids: true, answerMulti: func(texts []string) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sent = append(sent, len(texts)); len(sent) == 1 {
			return "NO so"
		}
		return ""
	}}
	large := letter("a", 4_000_000)
	put(t, open(t, options(s.start(t), durable.OS, t.TempDir())), large, large, large, large, large)
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := []int{2, 2}; !slices.Equal(sent, want) || len(s.took) != 5 {
		t.Errorf("%v together, want %v; %d messages", sent, want, len(s.took))
	}
}

// TestMultiAppendInterrupted has a server refuse several messages and hang up before it has
// read them. They are sent one by one on another connection, unless it has stored some.
func TestMultiAppendInterrupted(t *testing.T) {
	messages := append([]string{letter("large", 7<<20)}, fiveMessages()...)
	for keeps, appends := range map[int]int{0: 1 + len(messages), 2: 1} {
		s := script{caps: multiAppend, uids: true, interrupt: "TAG NO [TOOBIG] not so much\r\n", keeps: keeps}
		b, _ := stage(t, open(t, options(s.start(t), durable.OS, t.TempDir())), messages...)
		receipts, err := commit(t.Context(), b)
		if keeps > 0 {
			if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || e.Untaken || len(receipts) > 0 {
				t.Errorf("%d kept: Commit = %v, %+v", keeps, err, receipts)
			}
		} else if err != nil || len(receipts) != len(messages) || delivertest.FaultOf(receipts[0].Err) != deliver.FaultMessage || receipts[5].Err != nil {
			t.Errorf("Commit = %v, %+v", err, receipts)
		}
		if n := strings.Count(s.commands(), "APPEND"); n != appends {
			t.Errorf("%d kept: %d commands, want %d", keeps, n, appends)
		}
	}
}

// TestMultiAppendWithoutUIDNEXT has a server whose STATUS lacks UIDNEXT. Messages are sent one
// by one, since it would not be seen whether it stores some of several that it refuses.
func TestMultiAppendWithoutUIDNEXT(t *testing.T) {
	s := script{caps: multiAppend, uids: true, replies: map[string]string{"STATUS": "OK done"},
		answerMulti: func([]string) string { return "" }}
	put(t, open(t, options(s.start(t), durable.OS, t.TempDir())), fiveMessages()...)
	if n := strings.Count(s.commands(), "APPEND"); n != 5 {
		t.Errorf("%d commands", n)
	}
}

// TestMultiAppendLimits checks that one APPEND has no more than 8 MiB, and no message above
// the APPENDLIMIT of the server.
func TestMultiAppendLimits(t *testing.T) {
	var texts []int
	var s script
	s = script{caps: multiAppend + " APPENDLIMIT=5000000", uids: true, answerMulti: func(batch []string) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		texts = append(texts, len(batch))
		return ""
	}}
	sink := open(t, options(s.start(t), durable.OS, t.TempDir()))
	sized := func(n int) string { return "Subject: a\r\n\r\n" + strings.Repeat("x", n) + "\r\n" }
	b, _ := stage(t, sink, sized(3000), sized(3000), sized(5_000_000), sized(4_000_000), sized(4_000_000), sized(1_000_000), sized(10))
	receipts, err := commit(t.Context(), b)
	if err != nil || len(receipts) != 7 {
		t.Fatalf("%d receipts, %v", len(receipts), err)
	}
	for n, r := range receipts {
		if e, _ := errors.AsType[*deliver.Error](r.Err); (e != nil) != (n == 2) || e != nil && e.Fault != deliver.FaultMessage {
			t.Errorf("message %d: %v", n, r.Err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := []int{2, 2, 2}; !slices.Equal(texts, want) {
		t.Errorf("messages went together in %v, want %v", texts, want)
	}
}

// TestDovecotMultiAppend sends two thousand messages in one APPEND, and others in one during
// which the server is killed. Each must arrive once.
func TestDovecotMultiAppend(t *testing.T) {
	const total = 2000
	d := startDovecot(t, "")
	var appends atomic.Int32
	var kill atomic.Bool
	killed := make(chan struct{})
	addr := proxy(t, d.Addr, hooks{up: func(line string) bool {
		if strings.Contains(line, " APPEND ") {
			appends.Add(1)
		}
		if strings.HasPrefix(line, "Message-ID: <2500@") && kill.Swap(false) {
			d.Kill()
			close(killed)
		}
		return true
	}})
	o := options(addr, durable.OS, t.TempDir())
	s := open(t, o)
	messages := numberedMessages(2*total, 2000)
	put(t, s, messages[:total]...)
	if n := appends.Load(); n != 1 {
		t.Errorf("%d commands", n)
	}
	kill.Store(true)
	b, promises := stage(t, s, messages[total:]...)
	receipts, err := commit(t.Context(), b)
	if e, ok := errors.AsType[*deliver.Error](err); !ok || e.Fault != deliver.FaultTemporary || len(receipts) > 0 {
		t.Fatalf("Commit = %v, %d receipts", err, len(receipts))
	}
	<-killed
	d.Restart()
	settleAndDeliver(t, s, messages[total:], promises, nil)
	o.Server.Addr = d.Addr
	wantEachOnce(t, o, messages)
}
