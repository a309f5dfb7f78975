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

// local is a kind of sink on the disk, and how to make one that delivers to the
// same place as all others of a folder do, or to another.
var local = map[string]func(folder, name string) (deliver.Sink, error){
	"maildir": func(folder, name string) (deliver.Sink, error) {
		return maildir.New(filepath.Join(folder, name), maildir.Options{})
	},
	"mbox": func(folder, name string) (deliver.Sink, error) {
		return mbox.New(filepath.Join(folder, name), mbox.Options{
			Spool: spool.New(filepath.Join(folder, "spool"), durable.OS), LockTimeout: time.Millisecond,
		})
	},
}

// renaming returns an account with an archive of a kind, and what gives it another
// name, or another place as well.
func renaming(t *testing.T, kind string) (r *rig, rename func(name, place string)) {
	r = newRig(t, pop3test.Behaviour{})
	folder := t.TempDir()
	rename = func(name, place string) {
		sink, err := local[kind](folder, place)
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

// took counts the messages that landed in the account's second sink.
func took(r *rig) (n int) {
	for _, l := range eventsOf[fetch.Landed](r) {
		if l.Sink == r.account.Deliver[1].Name {
			n++
		}
	}
	return n
}

// owing has the archive take three messages that the first sink, which is returned,
// owes: it is unusable.
func (r *rig) owing(t *testing.T) (want []string, home deliver.Sink) {
	want, home = r.fill(3), r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unusable{home}
	if r.poll(); took(r) != 3 {
		t.Fatalf("the archive took %d", took(r))
	}
	return want, home
}

// A sink that gets another name has what it took before. One that delivers to
// another place has not.
func TestSinkRenamed(t *testing.T) {
	for kind := range local {
		for _, test := range []struct {
			place string
			again int
		}{{"archive", 0}, {"elsewhere", 3}} {
			t.Run(fmt.Sprintf("%s, to %s, while another owes", kind, test.place), func(t *testing.T) {
				r, rename := renaming(t, kind)
				want, home := r.owing(t)
				r.account.Deliver[0].Sink = home
				rename("files", test.place)
				r.later(day)
				if r.succeed(); took(r) != test.again {
					t.Errorf("renamed, it took %d", took(r))
				}
				r.expect(want...)
				r.expectEmpty()
			})
			t.Run(fmt.Sprintf("%s, to %s, after a crash", kind, test.place), func(t *testing.T) {
				r, rename := renaming(t, kind)
				want := r.fill(3)
				archive := r.account.Deliver[1].Sink
				r.account.Deliver[1].Sink = &batched{archive, func(b deliver.Batch) deliver.Batch { return speechless{b} }}
				r.poll()
				rename("files", test.place)
				for range 2 {
					r.later(day)
					r.poll()
				}
				if took(r) != test.again {
					t.Errorf("renamed, it took %d", took(r))
				}
				r.expect(want...)
				r.expectEmpty()
			})
		}
	}
}

// sweeping is a sink that has a spool.
type sweeping struct {
	deliver.Sink
	spool *spool.Dir
}

func (s sweeping) Sweep(_ context.Context, account string) error { return s.spool.Sweep(account) }

// A lock file that a crash has left is known for ours by what is in the spool, once this
// machine has another name. Whichever sink comes first, that is not swept away before.
func TestLeftLockedBesideAnother(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	folder := t.TempDir()
	box, err := local["mbox"](folder, "box")
	check(t, err)
	files := spool.New(filepath.Join(folder, "spool"), durable.OS)
	r.account.Deliver[0].Sink = sweeping{r.account.Deliver[0].Sink, files}
	r.account.Deliver = append(r.account.Deliver, fetch.Target{Name: "box", Sink: box})
	left, err := files.Create(r.account.Name)
	check(t, err)
	check(t, left.Close())
	lock := filepath.Join(folder, "box.lock")
	holder := fmt.Sprintf("mailhaul pid 1 host \"former\" boot \"former\"\nbatch %q\n", filepath.Base(left.Name()))
	check(t, os.WriteFile(lock, []byte(holder), 0o700))
	r.fill(1)
	r.succeed()
	if _, err := os.Stat(lock); err == nil {
		t.Error("it is still locked")
	}
	if _, err := os.Stat(left.Name()); err == nil {
		t.Error("the spool was not swept")
	}
}

// Two sinks that exchange their names while one of them owes messages have what they
// had, and get what they lack; also if that fails once more.
func TestSinksExchangeNames(t *testing.T) {
	for kind := range local {
		for _, failures := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, %d failures", kind, failures), func(t *testing.T) {
				r, rename := renaming(t, kind)
				want, home := r.owing(t)
				tries := 0
				rename("home", "archive")
				r.account.Deliver[0].Name = "archive"
				for range failures {
					r.account.Deliver[0].Sink = &batched{home, func(b deliver.Batch) deliver.Batch { return unprepared{b, &tries} }}
					r.later(day)
					r.poll()
				}
				r.account.Deliver[0].Sink = home
				r.later(day)
				if r.succeed(); took(r) != 0 || tries != failures {
					t.Errorf("by its new name, it took %d; the other failed %d times", took(r), tries)
				}
				r.expect(want...)
				r.expectEmpty()
			})
		}
		t.Run(kind+", after a crash", func(t *testing.T) {
			r, rename := renaming(t, kind)
			want := r.fill(3)
			archive := r.account.Deliver[1].Sink
			r.account.Deliver[1].Sink = &batched{archive, func(b deliver.Batch) deliver.Batch { return speechless{b} }}
			r.poll()
			rename("home", "archive")
			r.account.Deliver[0].Name = "archive"
			before := took(r) // of the other one, whose name that was
			for range 3 {
				r.later(day)
				r.poll()
			}
			if n := took(r) - before; n != 0 {
				t.Errorf("by its new name, it took %d", n)
			}
			r.expect(want...)
			r.expectEmpty()
		})
	}
}

// What a sink took by a former name is forgotten once the server has another message
// by that unique-id.
func TestSinkRenamedAndUIDReused(t *testing.T) {
	r, rename := renaming(t, "maildir")
	home := r.account.Deliver[0].Sink
	r.account.Deliver[0].Sink = unusable{home}
	r.drop.Add("u", []byte(message(1)))
	r.poll()
	r.drop.Remove("u")
	r.drop.Add("u", []byte(message(2)))
	r.account.Deliver[0].Sink = home
	rename("files", "archive")
	for range 3 {
		r.later(day)
		r.poll()
	}
	r.expect(message(2))
	r.expectEmpty()
	if took(r) != 1 {
		t.Errorf("it took %d", took(r))
	}
}
