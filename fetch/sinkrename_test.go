package fetch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// localSinks make a sink of each kind on the disk, with that name below folder. Sinks of
// one folder share their spool.
var localSinks = map[string]func(folder, name string) (deliver.Sink, error){
	"maildir": func(folder, name string) (deliver.Sink, error) {
		return maildir.New(filepath.Join(folder, name), maildir.Options{})
	},
	"mbox": func(folder, name string) (deliver.Sink, error) {
		return mbox.New(filepath.Join(folder, name), mbox.Options{
			Spool: spool.New(filepath.Join(folder, "spool"), durable.OS), LockTimeout: time.Millisecond,
		})
	},
}

// newRenameRig returns a rig whose second sink is an archive of a kind, and a func that
// gives the archive another name in the configuration, and another place if it differs
// from "archive".
func newRenameRig(t *testing.T, kind string) (r *rig, rename func(name, place string)) {
	r = newRig(t, pop3test.Behaviour{})
	folder := t.TempDir()
	rename = func(name, place string) {
		sink, err := localSinks[kind](folder, place)
		check(t, err)
		t.Cleanup(func() { sink.Close() })
		r.account.Deliver = append(r.account.Deliver[:1:1], fetch.Target{Name: name, Sink: sink})
		r.opts.Sinks = map[string]deliver.Sink{}
		for _, d := range r.account.Deliver {
			r.opts.Sinks[d.Name] = d.Sink
		}
	}
	rename("archive", "archive")
	return r, rename
}

// landedInSecond counts the landings in the account's second sink.
func landedInSecond(r *rig) (n int) {
	for _, l := range eventsOf[fetch.Landed](r) {
		if l.Sink == r.account.Deliver[1].Name {
			n++
		}
	}
	return n
}

// deliverToArchiveOnly has the archive take three messages while the first sink, which is
// returned, cannot.
func (r *rig) deliverToArchiveOnly(t *testing.T) (want []string, home deliver.Sink) {
	want, home = r.fill(3), r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unusable{home}
	if r.poll(); landedInSecond(r) != 3 {
		t.Fatalf("the archive took %d", landedInSecond(r))
	}
	return want, home
}

// A sink with a new name and the same place keeps what it has: no message is delivered to
// it again. A new place gets all messages.
func TestSinkRenamed(t *testing.T) {
	for kind := range localSinks {
		for _, test := range []struct {
			place string
			again int
		}{{"archive", 0}, {"elsewhere", 3}} {
			t.Run(fmt.Sprintf("%s, to %s, while another lacks messages", kind, test.place), func(t *testing.T) {
				r, rename := newRenameRig(t, kind)
				want, home := r.deliverToArchiveOnly(t)
				r.account.Deliver[0].Sink = home
				rename("files", test.place)
				r.advance(day)
				if r.mustPoll(); landedInSecond(r) != test.again {
					t.Errorf("renamed, it took %d", landedInSecond(r))
				}
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
			})
			t.Run(fmt.Sprintf("%s, to %s, after a crash", kind, test.place), func(t *testing.T) {
				r, rename := newRenameRig(t, kind)
				want := r.fill(3)
				archive := r.account.Deliver[1].Sink
				r.account.Deliver[1].Sink = unreported(archive)
				r.poll()
				rename("files", test.place)
				for range 2 {
					r.advance(day)
					r.poll()
				}
				if landedInSecond(r) != test.again {
					t.Errorf("renamed, it took %d", landedInSecond(r))
				}
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
			})
		}
	}
}

// sinkWithSpool is a sink whose Sweep removes what is left in a spool.
type sinkWithSpool struct {
	deliver.Sink
	spool *spool.Dir
}

func (s sinkWithSpool) Sweep(_ context.Context, account string) error { return s.spool.Sweep(account) }

// A lock file that a crash has left is known as ours by a file in the spool, even if the
// host name has changed since. That file is not swept away before, whichever sink comes
// first.
func TestLeftLockIsKnownBySpool(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	folder := t.TempDir()
	box, err := localSinks["mbox"](folder, "box")
	check(t, err)
	files := spool.New(filepath.Join(folder, "spool"), durable.OS)
	r.account.Deliver[0].Sink = sinkWithSpool{r.account.Deliver[0].Sink, files}
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "box", Sink: box})
	left, err := files.Create(r.account.Name)
	check(t, err)
	check(t, left.Close())
	lock := filepath.Join(folder, "box.lock")
	holder := fmt.Sprintf("mailhaul pid 1 host \"former\" boot \"former\"\nbatch %q\n", filepath.Base(left.Name()))
	check(t, os.WriteFile(lock, []byte(holder), 0o700))
	r.fill(1)
	r.mustPoll()
	if _, err := os.Stat(lock); err == nil {
		t.Error("it is still locked")
	}
	if _, err := os.Stat(left.Name()); err == nil {
		t.Error("the spool was not swept")
	}
}

// Two sinks may exchange their names while one of them lacks messages. Each keeps what it
// has and gets what it lacks, also if that fails once more.
func TestSinksExchangeNames(t *testing.T) {
	for kind := range localSinks {
		for _, failures := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, %d failures", kind, failures), func(t *testing.T) {
				r, rename := newRenameRig(t, kind)
				want, home := r.deliverToArchiveOnly(t)
				tries := 0
				rename("home", "archive")
				r.account.Deliver[0].Name = "archive"
				for range failures {
					r.account.Deliver[0].Sink = failPrepare(home, &tries)
					r.advance(day)
					r.poll()
				}
				r.account.Deliver[0].Sink = home
				r.advance(day)
				if r.mustPoll(); landedInSecond(r) != 0 || tries != failures {
					t.Errorf("by its new name, it took %d; the other failed %d times", landedInSecond(r), tries)
				}
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
			})
		}
		t.Run(kind+", after a crash", func(t *testing.T) {
			r, rename := newRenameRig(t, kind)
			want := r.fill(3)
			archive := r.account.Deliver[1].Sink
			r.account.Deliver[1].Sink = unreported(archive)
			r.poll()
			rename("home", "archive")
			r.account.Deliver[0].Name = "archive"
			before := landedInSecond(r) // of the other sink, which had that name
			for range 3 {
				r.advance(day)
				r.poll()
			}
			if n := landedInSecond(r) - before; n != 0 {
				t.Errorf("by its new name, it took %d", n)
			}
			r.expectDelivered(want...)
			r.expectMaildropEmpty()
		})
	}
}

// What a renamed sink took is not taken for a new message with the same unique-id.
func TestSinkRenamedAndUIDReused(t *testing.T) {
	r, rename := newRenameRig(t, "maildir")
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unusable{home}
	r.drop.Add("u", []byte(message(1)))
	r.poll()
	r.drop.Remove("u")
	r.drop.Add("u", []byte(message(2)))
	r.account.Deliver[0].Sink = home
	rename("files", "archive")
	for range 3 {
		r.advance(day)
		r.poll()
	}
	r.expectDelivered(message(2))
	r.expectMaildropEmpty()
	if landedInSecond(r) != 1 {
		t.Errorf("it took %d", landedInSecond(r))
	}
}
