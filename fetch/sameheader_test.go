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

// A plan of 40,000 messages with the same header and no unique-ids, as a runaway script
// sends them, is made in good time. A plan whose cost grew with the square of their number
// would not end.
func TestPlanOfManySameHeaders(t *testing.T) {
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

	// Without headers, deleted messages could only be told by their contents, and no
	// listed message has their size.
	for i := range rows {
		rows[i].Phase, rows[i].Size = state.Deleted, n+1
	}
	if blind := fetch.MakePlan(listing, rows, map[int]state.Sum{}, pol); len(blind.Fetch) != n {
		t.Errorf("of %d without a header, %d are fetched", n, len(blind.Fetch))
	}
}

// Messages that only their bodies tell apart are known again after months without a poll,
// although they were missing from the last listing. Rows of messages that are then still
// missing are forgotten.
func TestSameHeaderAfterMonths(t *testing.T) {
	for _, most := range []int{0, 1} {
		r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL"}})
		r.account.Keep.Forever, r.account.MaxMessages = true, most
		var want []string
		for i := range 4 {
			r.drop.Add("x"+strconv.Itoa(i), []byte(sameHeader(i)))
			want = append(want, sameHeader(i))
		}
		r.mustPoll()
		r.drop.Order(pop3test.EmptyListing().Session(r.drop.Sessions() + 1))
		r.advance(day)
		r.mustPoll()
		r.drop.Remove("x3")
		for range 3 {
			r.advance(2*fetch.Remembered + day)
			r.mustPoll()
			r.expectDelivered(want...)
		}
		if n := len(r.rows()); n != 3 {
			t.Errorf("%d rows for the three messages on the server", n)
		}
	}
}

// A message that cannot be known again has no pause after it was refused, and none is
// reported.
func TestNoPauseWithoutUID(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"UIDL", "TOP"}})
	r.fill(2)
	r.server.Order(pop3test.ReplyErr("RETR", "no").UID("u2"))
	r.poll()
	refused := eventsOf[fetch.Refused](r)
	if len(refused) != 1 || !refused[0].NextTry.IsZero() {
		t.Errorf("refused: %v", refused)
	}
}
