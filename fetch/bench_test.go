package fetch_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// BenchmarkMakePlan makes the plan of a poll that finds nothing new.
func BenchmarkMakePlan(b *testing.B) {
	for _, n := range []int{20_000, 200_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			listing := make([]pop3proto.Entry, n)
			rows := make([]state.Row, n)
			for i := range listing {
				uid := fmt.Sprintf("%08x%08x", i+1, 1_700_000_000) // as Dovecot makes them
				listing[i] = pop3proto.Entry{Num: i + 1, UID: uid, Size: 100}
				rows[i] = landed(uid, ago(day))
			}
			b.ReportAllocs()
			for b.Loop() {
				p := fetch.MakePlan(listing, rows, nil, fetch.Policy{Keep: fetch.Keep{Forever: true}, Now: noon})
				if p.Kept != n {
					b.Fatalf("%d of %d messages are kept", p.Kept, n)
				}
			}
		})
	}
}

// unsyncedFS is the file system with syncs that do nothing.
type unsyncedFS struct{ durable.FS }

type unsyncedFile struct{ durable.File }

func (u unsyncedFS) SyncDir(string) error { return nil }

func (unsyncedFile) Sync() error { return nil }

func (u unsyncedFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	return unsyncedFile{f}, err
}

// BenchmarkPoll fetches 500 messages into a Maildir that is never synced, and deletes
// them. The server runs in the same process and is part of the figures.
func BenchmarkPoll(b *testing.B) {
	const messages = 500
	text := "Subject: hello\r\nMessage-ID: <%d.%d@example.org>\r\n\r\n" + strings.Repeat(strings.Repeat("x", 72)+"\r\n", 110)
	r := newRig(b, pop3test.Behaviour{})
	sink, err := maildir.New(r.dir, maildir.Options{FS: unsyncedFS{durable.OS}})
	check(b, err)
	r.account.Deliver[0].Sink = sink
	r.opts.Observer = nil
	b.SetBytes(int64(messages * len(text)))
	b.ReportAllocs()
	for poll := 0; b.Loop(); poll++ {
		b.StopTimer()
		for i := range messages {
			r.drop.Add(fmt.Sprintf("%d.%d", poll, i), fmt.Appendf(nil, text, poll, i))
		}
		b.StartTimer()
		if s := r.mustPoll(); s.Fetched != messages {
			b.Fatalf("%d of %d messages have come", s.Fetched, messages)
		}
	}
}
