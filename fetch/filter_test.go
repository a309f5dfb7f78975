package fetch_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"golang.org/x/sys/unix"
)

// filtered returns a rig whose account shows its mail to a shell script, or to
// another program that the options name.
func filtered(t *testing.T, script string, o filter.Options) *rig {
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

func TestFilterChangesMessages(t *testing.T) {
	r := filtered(t, "echo X-Spam: no; cat", filter.Options{})
	archive, archived := r.another("archive")
	r.account.Deliver = append(r.account.Deliver, archive)
	var want []string
	for _, m := range r.fill(3) {
		want = append(want, "X-Spam: no\n"+m)
	}
	s := r.succeed()
	r.expect(want...)
	expectMail(t, "the archive", archived(), want...)
	if s.Deleted != 3 {
		t.Errorf("deleted %d", s.Deleted)
	}
}

func TestFilterVerdicts(t *testing.T) {
	const script = `case "$(cat)" in *bad*) exit 99;; *odd*) exit 100;; esac; echo "Subject: passed"; echo`
	r := filtered(t, script, filter.Options{AllowDrop: true})
	quarantine, quarantined := r.another("quarantine")
	r.account.Quarantine = &quarantine
	r.drop.Add("a", []byte("Subject: bad\n\n"))
	r.drop.Add("b", []byte("Subject: odd\n\n"))
	r.drop.Add("c", []byte("Subject: fine\n\n"))
	s := r.succeed()
	r.expect("Subject: passed\n\n")
	expectMail(t, "the quarantine", quarantined(), "Subject: odd\n\n")
	if s.Deleted != 3 || s.Fetched != 2 || s.Dropped != 1 || s.Quarantined != 1 || len(eventsOf[fetch.Refused](r)) != 0 {
		t.Errorf("fetched %d, dropped %d, quarantined %d, deleted %d; refused %+v", s.Fetched, s.Dropped, s.Quarantined, s.Deleted, eventsOf[fetch.Refused](r))
	}
	r.drop.Restore()
	if s := r.succeed(); s.Deleted != 3 {
		t.Errorf("of the restored mail, deleted %d", s.Deleted)
	}
	r.expect("Subject: passed\n\n")
}

// A session in which every message was dropped has moved on, and the next one
// goes on from there.
func TestFilterDropsAll(t *testing.T) {
	r := filtered(t, "exit 99", filter.Options{AllowDrop: true})
	r.account.MaxMessages = 2
	r.fill(3)
	if s := r.succeed(); s.Dropped != 3 || s.Fetched != 0 || s.Bytes != 0 || s.Deleted != 3 {
		t.Errorf("dropped %d, fetched %d (%d bytes), deleted %d", s.Dropped, s.Fetched, s.Bytes, s.Deleted)
	}
	if s := r.succeed(); s.Fetched != 0 { // of what a poll did not tell of
		t.Errorf("the next poll fetched %d", s.Fetched)
	}
	r.expect()
}

// What is to go to a quarantine that there is not stays, and the reason says how
// to make one.
func TestFilterWithoutQuarantine(t *testing.T) {
	r := filtered(t, "exit 100", filter.Options{})
	r.fill(1)
	if s := r.poll(); s.Class != fetch.ClassRefused || s.Deleted != 0 {
		t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
	}
	r.expectRefused("u1", "refused: quarantine and quarantine: SINK")
}

// A filter that fails lets mail through, with a word about it; or the message
// waits, and the others do not.
func TestFilterFails(t *testing.T) {
	const script = `if grep -q number; then exit 1; fi; echo "Subject: passed"; echo`
	for _, on := range []filter.OnFailure{filter.Deliver, filter.Wait} {
		r := filtered(t, script, filter.Options{OnFailure: on})
		want := r.fill(1)
		r.drop.Add("fine", []byte("Subject: fine\n\n"))
		s := r.poll()
		if on == filter.Deliver {
			r.expect(append(want, "Subject: passed\n\n")...)
			if warned := eventsOf[fetch.Warned](r); s.Class != fetch.ClassFine || len(warned) != 1 || !warned[0].Filter ||
				!strings.HasPrefix(warned[0].Text, "a message went on unfiltered: filter sh: ") {
				t.Errorf("%v, warned %v: %v", s.Class, warned, s.Err)
			}
			if r.succeed(); len(eventsOf[fetch.Warned](r)) != 1 {
				t.Error("warned by a poll without mail")
			}
			continue
		}
		r.expect("Subject: passed\n\n")
		if s.Class != fetch.ClassRefused || s.Deleted != 1 {
			t.Errorf("%v, deleted %d: %v", s.Class, s.Deleted, s.Err)
		}
		r.expectRefused("u1", "filter")
	}
}

// Where mail waits for its filter, a program that is missing is nothing that any
// message could help: a person is asked, and all goes on once it is there. It is
// found before anything is downloaded, what it needs itself with the first message.
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
			r := filtered(t, "", filter.Options{Argv: []string{program}, OnFailure: filter.Wait})
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
			if s := r.succeed(); s.Deleted != 2 {
				t.Errorf("deleted %d", s.Deleted)
			}
			r.expect(want...)
		})
	}
}

// A filter that lacks a program for one message holds up no other.
func TestFilterLacksProgramForOne(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	script := `if grep -q "number 3"; then ` + program + ` || exit; fi; echo "Subject: passed"; echo`
	r := filtered(t, script, filter.Options{OnFailure: filter.Wait})
	r.account.MaxMessages = 3
	r.fill(5)
	for at, want := range []int{2, 4, 4} {
		s := r.poll()
		if got := len(r.mail()); s.Class != fetch.ClassOperator || got != want || len(r.left()) != 5-want {
			t.Fatalf("poll %d: %v, %d delivered, left %q: %v", at, s.Class, got, r.left(), s.Err)
		}
	}
	check(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700))
	r.succeed() // at once: no pause is held against the message
	r.expectEmpty()
}

// That a filter did not end, since the poll was called off, is held against no message.
func TestFilterIsCalledOff(t *testing.T) {
	for _, on := range []filter.OnFailure{filter.Deliver, filter.Wait} {
		begun := filepath.Join(t.TempDir(), "begun")
		check(t, unix.Mkfifo(begun, 0o600))
		r := filtered(t, "echo >"+begun+"; exec sleep 1000", filter.Options{OnFailure: on})
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
		r.expect()
	}
}

// What a filter had of a message when its poll was killed does not stay on the disk.
func TestFilterSweeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	files := spool.New(dir, durable.OS)
	r := filtered(t, "cat", filter.Options{Spool: files})
	f, err := files.Create(r.account.Name)
	check(t, err)
	check(t, f.Close())
	r.succeed()
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}
