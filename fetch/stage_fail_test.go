package fetch_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable/durabletest"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// forbidden returns a file system in which nothing can be created below folder while on is
// set.
func forbidden(folder string, on *bool) *durabletest.FS {
	fsys := durabletest.New()
	fsys.OnOp(func(op durabletest.Op) error {
		if *on && op.Verb == durabletest.Create && strings.HasPrefix(op.Path, folder) {
			return syscall.EACCES
		}
		return nil
	})
	return fsys
}

// A sink that fails in Stage holds up no other sink, and gets all messages once it works.
func TestStageFailsInOneOfSeveral(t *testing.T) {
	for name, open := range map[string]func(broken *bool) (deliver.Sink, error){
		"a Maildir": func(broken *bool) (deliver.Sink, error) {
			return maildir.New("/sick", maildir.Options{FS: forbidden("/sick/tmp/", broken)})
		},
		"the spool of an mbox": func(broken *bool) (deliver.Sink, error) {
			fsys := forbidden("/spool/", broken)
			return mbox.New("/box", mbox.Options{FS: fsys, Spool: spool.New("/spool", fsys)})
		},
	} {
		for _, order := range []string{"first", "last"} {
			t.Run(name+", "+order, func(t *testing.T) {
				r := newRig(t, pop3test.Behaviour{})
				broken := false
				sink, err := open(&broken)
				check(t, err)
				sick := fetch.Target{Name: "sick", Sink: sink}
				r.account.Deliver = append(r.account.Deliver, sick)
				if order == "first" {
					r.account.Deliver[0], r.account.Deliver[1] = r.account.Deliver[1], r.account.Deliver[0]
				}
				r.drop.Add("before", []byte(message(100))) // so that the sinks are set up
				r.mustPoll()
				broken = true
				want := append(r.fill(5), message(100))
				for range 2 {
					if s := r.poll(); s.Class != fetch.ClassOperator || s.Deleted != 0 {
						t.Errorf("%v, %d deleted: %v", s.Class, s.Deleted, s.Err)
					}
					r.expectDelivered(want...)
					r.advance(day)
				}
				broken = false
				if s := r.mustPoll(); s.Deleted != 5 {
					t.Errorf("%d deleted", s.Deleted)
				}
				r.expectDelivered(want...)
				r.expectMaildropEmpty()
			})
		}
	}
}
