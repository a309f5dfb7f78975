package fetch_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"golang.org/x/sys/unix"
)

// newFilterRig returns a rig whose account pipes its mail through a shell script, or
// through another program that o names.
func newFilterRig(t *testing.T, script string, o filter.Options) *rig {
	r := newRig(t, pop3test.Behaviour{})
	if o.Argv == nil {
		o.Argv = []string{"sh", "-c", script}
	}
	if o.Spool == nil {
		o.Spool = spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS)
	}
	var err error
	r.account.Filter, err = filter.New(o)
	check(t, err)
	return r
}

// What the filter prints is what each sink gets.
func TestFilterChangesMessages(t *testing.T) {
	r := newFilterRig(t, "echo X-Spam: no; cat", filter.Options{})
	archived := r.addMaildir("archive")
	var want []string
	for _, m := range r.fill(3) {
		want = append(want, "X-Spam: no\n"+m)
	}
	s := r.mustPoll()
	r.expectDelivered(want...)
	expectMail(t, "the archive", archived(), want...)
	if s.Deleted != 3 {
		t.Errorf("deleted %d", s.Deleted)
	}
}

// What becomes of a message by the filter is reported, also of one without a unique-id.
func TestFilterReportsMessageWithoutUID(t *testing.T) {
	const script = `case "$(cat)" in *bad*) exit 99;; *odd*) exit 100;; esac; exit 1`
	r := newFilterRig(t, script, filter.Options{AllowDrop: true, OnFailure: filter.Deliver})
	quarantine, _ := r.newMaildir("quarantine")
	r.account.Quarantine = &quarantine
	r.drop.Add("a", []byte("Subject: bad\n\n"))
	for _, subject := range []string{"bad", "odd", "fine"} {
		r.drop.Add("", []byte("Subject: "+subject+"\n\n"))
	}
	r.mustPoll()
	var texts []string
	for _, e := range eventsOf[fetch.Noticed](r) {
		texts = append(texts, e.Text)
	}
	for _, want := range []string{
		`the filter dropped message "a"`,
		"the filter dropped a message without a unique-id",
		"the filter sent a message without a unique-id to quarantine",
		"a message without a unique-id goes on unfiltered: ",
	} {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, want) }) {
			t.Errorf("there is no notice %q: %q", want, texts)
		}
	}
}

// The exit status of the filter decides: 99 drops a message, 100 sends it to the
// quarantine. Both count as dealt with: the message is deleted, and only deleted again if
// the server restores it.
func TestFilterVerdicts(t *testing.T) {
	const script = `case "$(cat)" in *bad*) exit 99;; *odd*) exit 100;; esac; echo "Subject: passed"; echo`
	r := newFilterRig(t, script, filter.Options{AllowDrop: true})
	quarantine, quarantined := r.newMaildir("quarantine")
	r.account.Quarantine = &quarantine
	r.drop.Add("a", []byte("Subject: bad\n\n"))
	r.drop.Add("b", []byte("Subject: odd\n\n"))
	r.drop.Add("c", []byte("Subject: fine\n\n"))
	s := r.mustPoll()
	r.expectDelivered("Subject: passed\n\n")
	expectMail(t, "the quarantine", quarantined(), "Subject: odd\n\n")
	if s.Deleted != 3 || s.Fetched != 2 || s.Dropped != 1 || s.Quarantined != 1 || len(eventsOf[fetch.Refused](r)) != 0 {
		t.Errorf("fetched %d, dropped %d, quarantined %d, deleted %d; refused %+v", s.Fetched, s.Dropped, s.Quarantined, s.Deleted, eventsOf[fetch.Refused](r))
	}
	r.drop.Restore()
	if s := r.mustPoll(); s.Deleted != 3 {
		t.Errorf("of the restored mail, deleted %d", s.Deleted)
	}
	r.expectDelivered("Subject: passed\n\n")
}

// A session whose messages are all dropped has made progress, and the next one goes on
// after it.
func TestFilterDropsAll(t *testing.T) {
	r := newFilterRig(t, "exit 99", filter.Options{AllowDrop: true})
	r.account.MaxMessages = 2
	r.fill(3)
	if s := r.mustPoll(); s.Dropped != 3 || s.Fetched != 0 || s.Octets != 0 || s.Deleted != 3 {
		t.Errorf("dropped %d, fetched %d (%d bytes), deleted %d", s.Dropped, s.Fetched, s.Octets, s.Deleted)
	}
	if s := r.mustPoll(); s.Fetched != 0 { // nothing is counted by a later poll
		t.Errorf("the next poll fetched %d", s.Fetched)
	}
	r.expectDelivered()
}

// A message that the filter sends to the quarantine, where there is none, is refused. The
// reason says how to add one.
func TestFilterWithoutQuarantine(t *testing.T) {
	r := newFilterRig(t, "exit 100", filter.Options{})
	r.fill(1)
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Deleted != 0 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.expectRefused("u1", "refused: quarantine and quarantine: SINK")
}

// If the filter fails, the message is delivered unfiltered with a warning, or waits alone,
// as OnFailure says.
func TestFilterFailureLetsThroughOrWaits(t *testing.T) {
	const script = `if grep -q number; then exit 1; fi; echo "Subject: passed"; echo`
	for _, on := range []filter.OnFailure{filter.Deliver, filter.Wait} {
		r := newFilterRig(t, script, filter.Options{OnFailure: on})
		want := r.fill(1)
		r.drop.Add("fine", []byte("Subject: fine\n\n"))
		s := r.poll()
		if on == filter.Deliver {
			r.expectDelivered(append(want, "Subject: passed\n\n")...)
			if warned := eventsOf[fetch.Warned](r); s.Class != fetch.ClassFine || len(warned) != 1 || !warned[0].Filter ||
				!strings.HasPrefix(warned[0].Text, "a message went on unfiltered: filter sh: ") {
				t.Errorf("%v, warned %v: %v", s.Class, warned, s.Err)
			}
			if r.mustPoll(); len(eventsOf[fetch.Warned](r)) != 1 {
				t.Error("warned by a poll without mail")
			}
			continue
		}
		r.expectDelivered("Subject: passed\n\n")
		if s.Class != fetch.ClassRefused || s.Deleted != 1 {
			t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
		}
		r.expectRefused("u1", "filter")
	}
}

// If the filter's program cannot run, a person is called and no message is refused. A
// program that is missing itself is noticed before anything is downloaded.
func TestFilterMissing(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	for _, test := range []struct {
		name, script, hint string
	}{
		{"the program", "", "install it"},
		{"its interpreter", "#!" + program + ".missing\n", "run it by hand"},
		{"what it runs", "#!/bin/sh\n" + program + ".missing\n", "a program that it runs is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newFilterRig(t, "", filter.Options{Argv: []string{program}, OnFailure: filter.Wait})
			want := r.fill(2)
			if test.script != "" {
				check(t, os.WriteFile(program, []byte(test.script), 0o700))
			}
			s := r.poll()
			if s.Class != fetch.ClassOperator || s.Refused != 0 || !strings.Contains(fetch.Hint(s.Err), test.hint) {
				t.Errorf("%v, %d refused: %v (%s)", s.Class, s.Refused, s.Err, fetch.Hint(s.Err))
			}
			if test.script == "" && slices.Contains(r.drop.Log(), "RETR 1") {
				t.Error("downloaded for nothing")
			}
			check(t, os.WriteFile(program, []byte("#!/bin/sh\ncat\n"), 0o700))
			if s := r.mustPoll(); s.Deleted != 2 {
				t.Errorf("deleted %d", s.Deleted)
			}
			r.expectDelivered(want...)
		})
	}
}

// A filter that misses another program for one message alone holds up no other message.
func TestFilterLacksProgramForOne(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	script := `if grep -q "number 3"; then ` + program + ` || exit; fi; echo "Subject: passed"; echo`
	r := newFilterRig(t, script, filter.Options{OnFailure: filter.Wait})
	r.account.MaxMessages = 3
	r.fill(5)
	for at, want := range []int{2, 4, 4} {
		s := r.poll()
		if got := len(r.mail()); s.Class != fetch.ClassOperator || got != want || len(r.left()) != 5-want {
			t.Fatalf("poll %d: %v, %d delivered, left %q: %v", at, s.Class, got, r.left(), s.Err)
		}
	}
	check(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	r.mustPoll() // at once: the message has no pause
	r.expectMaildropEmpty()
}

// A filter that is ended because the poll was cancelled is held against no message.
func TestFilterIsCalledOff(t *testing.T) {
	for _, on := range []filter.OnFailure{filter.Deliver, filter.Wait} {
		begun := filepath.Join(t.TempDir(), "begun")
		check(t, unix.Mkfifo(begun, 0o600))
		r := newFilterRig(t, "echo >"+begun+"; exec sleep 1000", filter.Options{OnFailure: on})
		r.fill(2)
		ctx, hangUp := context.WithCancel(t.Context())
		go func() {
			_, _ = os.ReadFile(begun)
			hangUp()
		}()
		s := r.account.Poll(ctx, r.opts)
		if s.Class != fetch.ClassRetry || s.Refused != 0 || len(r.rows()) != 0 {
			t.Errorf("%v, %d refused, rows %v: %v", s.Class, s.Refused, r.rows(), s.Err)
		}
		r.expectDelivered()
	}
}

// A poll removes what a filter of a killed poll has left on the disk.
func TestFilterSweeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	files := spool.New(dir, durable.OS)
	r := newFilterRig(t, "cat", filter.Options{Spool: files})
	f, err := files.Create(r.account.Name)
	check(t, err)
	check(t, f.Close())
	r.mustPoll()
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

// A message stays the same message though its filter changes it at each run. A recipient
// who has it is not sent it again.
func TestFilteredAgain(t *testing.T) {
	const a, b = "a@example.org", "b@example.org"
	// The filter's field comes before our Received field, which has another time in each poll.
	const script = `echo "X-Run: $$"; cat`
	r := newFilterRig(t, script, filter.Options{})
	server := &lmtpServer{later: b}
	sink, err := smtp.New(smtp.Options{
		Server: remote.Server{Addr: server.listen(t), Security: remote.PlainText},
		LMTP:   true, To: []string{a, b}, Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS),
	})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	r.account.Deliver = []fetch.Target{{Name: "lda", Sink: sink}}
	r.account.Headers.Received = true
	r.fill(1)
	r.poll()
	r.advance(day)
	r.poll()
	r.account.Filter = nil
	r.advance(day)
	r.poll()
	if want := []string{a, b, b, b}; !slices.Equal(server.to, want) {
		t.Errorf("sent to %q, want %q", server.to, want)
	}
}

// lmtpServer is an LMTP server that refuses one recipient for now.
type lmtpServer struct {
	later string

	mu sync.Mutex
	to []string // the recipients of all messages that it was sent, in order
}

// listen starts the server and returns its address.
func (l *lmtpServer) listen(t *testing.T) string {
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return l, nil }))
	s.LMTP = true
	n, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go func() { _ = s.Serve(n) }()
	t.Cleanup(func() { s.Close() })
	return n.Addr().String()
}

func (l *lmtpServer) Reset()                                 {}
func (l *lmtpServer) Logout() error                          { return nil }
func (l *lmtpServer) Mail(string, *gosmtp.MailOptions) error { return nil }
func (l *lmtpServer) Data(r io.Reader) error                 { _, err := io.Copy(io.Discard, r); return err }

func (l *lmtpServer) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = append(l.to, to)
	if to == l.later {
		return &gosmtp.SMTPError{Code: 450, Message: "later"}
	}
	return nil
}
