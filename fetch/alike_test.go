package fetch_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Many messages that are alike, as a runaway script sends them, on servers that
// give them no unique-id. A plan whose cost grew with a power of their number would
// not end in time.
func TestPlanOfManyAlike(t *testing.T) {
	const n = 40_000
	listing := make([]pop3proto.Entry, n)
	headers := map[int]state.Sum{}
	for i := range listing {
		listing[i] = pop3proto.Entry{Num: i + 1, Size: int64(i)}
		headers[i+1] = sum("alike")
	}
	pol := fetch.Policy{Keep: fetch.Keep{Forever: true}, Now: noon}

	first := fetch.MakePlan(listing, nil, headers, pol)
	var rows []state.Row
	for i, w := range first.Fetch {
		row := landed(w.Key, ago(day))
		row.Header, row.Content = sum("alike"), sum(fmt.Sprint(i))
		rows = append(rows, row)
	}
	byKey(rows...)
	if keys := slices.CompactFunc(slices.Clone(rows), func(a, b state.Row) bool { return a.UID == b.UID }); len(keys) != n {
		t.Fatalf("%d messages have %d keys", n, len(keys))
	}
	if again := fetch.MakePlan(listing, rows, headers, pol); again.Kept != n {
		t.Errorf("of %d that were fetched, %d are known again", n, again.Kept)
	}
	headers[n+1] = sum("alike")
	more := fetch.MakePlan(append(listing, pop3proto.Entry{Num: n + 1}), rows, headers, pol)
	if len(more.Fetch) != 1 || slices.ContainsFunc(rows, func(r state.Row) bool { return r.UID == more.Fetch[0].Key }) {
		t.Errorf("one more is planned as %+v", more.Fetch)
	}

	// The server tells no header, and all was deleted: only a content of that size
	// could tell.
	for i := range rows {
		rows[i].Phase, rows[i].Size = state.Deleted, n+1
	}
	if blind := fetch.MakePlan(listing, rows, map[int]state.Sum{}, pol); len(blind.Fetch) != n {
		t.Errorf("of %d without a header, %d are fetched", n, len(blind.Fetch))
	}
}

// What nothing but its content tells is known again after months in which nobody
// looked, though it was not listed before; and what is not listed then either is
// forgotten.
func TestAlikeAfterMonths(t *testing.T) {
	for _, most := range []int{0, 1} {
		r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
		r.account.Keep.Forever, r.account.MaxMessages = true, most
		var want []string
		for i := range 4 {
			r.drop.Add("x"+strconv.Itoa(i), []byte(alike(i)))
			want = append(want, alike(i))
		}
		r.succeed()
		r.drop.Order(pop3test.EmptyListing().Session(r.drop.Sessions() + 1))
		r.later(day)
		r.succeed()
		r.drop.Remove("x3")
		for range 3 {
			r.later(2*fetch.Remembered + day)
			r.succeed()
			r.expect(want...)
		}
		if n := len(r.rows()); n != 3 {
			t.Errorf("%d rows for the three messages on the server", n)
		}
	}
}

// Nobody is told of a pause that is not kept.
func TestNoPauseWithoutAName(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.fill(2)
	r.server.Order(pop3test.ReplyErr("RETR", "no").UID("u2"))
	r.poll()
	refused := eventsOf[fetch.Refused](r)
	if len(refused) != 1 || !refused[0].NextTry.IsZero() {
		t.Errorf("refused: %v", refused)
	}
}
