package state_test

import (
	"fmt"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// remember lands n messages of an account.
func remember(tb testing.TB, s *state.Store, account string, n int) {
	tb.Helper()
	ps := make([]state.Promise, n)
	ls := make([]state.Landing, n)
	for i := range ps {
		uid := fmt.Sprintf("%08x%08x", i, 1700000000)
		ps[i] = state.Promise{UID: uid, Sink: "home", Token: fmt.Sprintf("1700000000.M%06dP4711Q%d.host,S=4711", i, i),
			Size: 4711, Header: state.Sum{1, byte(i), byte(i >> 8)}, Content: state.Sum{2, byte(i), byte(i >> 8)}}
		ps[i].Where = "/home/me/Maildir/new/" + ps[i].Token
		ls[i] = state.Landing{UID: uid, Sink: "home"}
	}
	ok(tb, s.Promise(tb.Context(), account, ps))
	ok(tb, s.Land(tb.Context(), account, 1700000000, ls))
}

const many = 100_000

func BenchmarkRows(b *testing.B) {
	s := open(b, b.TempDir())
	remember(b, s, "work", many)
	for b.Loop() {
		rows, err := s.Rows(b.Context(), "work")
		ok(b, err)
		if len(rows) != many {
			b.Fatal(len(rows))
		}
	}
}

func BenchmarkRowStates(b *testing.B) {
	s := open(b, b.TempDir())
	remember(b, s, "work", many)
	for b.Loop() {
		rows, err := s.RowStates(b.Context(), "work")
		ok(b, err)
		if len(rows) != many {
			b.Fatal(len(rows))
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	s := open(b, b.TempDir())
	remember(b, s, "work", many)
	for b.Loop() {
		_, err := s.Status(b.Context(), "work", 1)
		ok(b, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir() + "/state"
	s := open(b, dir)
	remember(b, s, "work", many)
	ok(b, s.Close())
	for b.Loop() {
		s, err := state.Open(b.Context(), dir)
		ok(b, err)
		ok(b, s.Close())
	}
}

// BenchmarkBatch promises and lands batches of 64 messages, in an account with 100,000
// others.
func BenchmarkBatch(b *testing.B) {
	s := open(b, b.TempDir())
	remember(b, s, "work", many)
	for n := 0; b.Loop(); n++ {
		ps := make([]state.Promise, 64)
		ls := make([]state.Landing, 64)
		for i := range ps {
			uid := fmt.Sprintf("b%d.%d", n, i)
			ps[i] = state.Promise{UID: uid, Sink: "home", Token: uid, Where: uid, Header: state.Sum{1}, Content: state.Sum{2}}
			ls[i] = state.Landing{UID: uid, Sink: "home"}
		}
		ok(b, s.Promise(b.Context(), "work", ps))
		ok(b, s.Land(b.Context(), "work", 1700000000, ls))
	}
}

func BenchmarkKeepNothing(b *testing.B) {
	s := open(b, b.TempDir())
	for b.Loop() {
		ok(b, s.Keep(b.Context(), "work", 1, state.Housekeeping{}))
	}
}

func BenchmarkKeepMissing(b *testing.B) {
	s := open(b, b.TempDir())
	remember(b, s, "work", many)
	rows, err := s.Rows(b.Context(), "work")
	ok(b, err)
	uids := make([]string, len(rows))
	for i, r := range rows {
		uids[i] = r.UID
	}
	for b.Loop() {
		ok(b, s.Keep(b.Context(), "work", 1, state.Housekeeping{Missing: uids}))
		ok(b, s.Keep(b.Context(), "work", 1, state.Housekeeping{Found: uids}))
	}
}

// BenchmarkParallel writes from many goroutines at once, which share commits.
func BenchmarkParallel(b *testing.B) {
	s := open(b, b.TempDir())
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ok(b, s.Promise(b.Context(), "work", []state.Promise{{UID: "1", Sink: "home", Token: "t"}}))
		}
	})
}

// BenchmarkSavePoll saves polls that found nothing, as most do.
func BenchmarkSavePoll(b *testing.B) {
	s := open(b, b.TempDir())
	for at := int64(1700000000); b.Loop(); at += 300 {
		ok(b, s.SavePoll(b.Context(), "work", state.Poll{
			Started: at, Ended: at + 1, Result: "fine", Listed: 20, Schedule: &state.Schedule{Next: at + 300},
		}))
	}
}
