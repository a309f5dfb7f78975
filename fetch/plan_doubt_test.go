package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Rows are in doubt where mail might be lost or delivered twice otherwise, and nowhere
// else. Messages in doubt are looked at by each poll.
func TestPlanInDoubt(t *testing.T) {
	partial := forever
	partial.Partial = true
	undeleted := landed("1", ago(2*day))
	undeleted.Deleted = ago(day)
	tried := deleted("a", ago(day))
	tried.Tries = 1
	testPlan(t, []planCase{
		{
			name:    "a partial listing casts no doubt on unique-ids that are no numbers",
			listing: entries("a", "b"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day))),
			policy:  partial,
			want:    "kept 2\n",
		},
		{
			name:    "a partial listing casts doubt on numbers, but the header of a message that the server refused is not asked for in its pause",
			listing: entries("1", "2", "3", "4"),
			rows: byKey(landed("1", ago(day)), state.Row{UID: "2", Phase: state.Refused, Tries: 1, NextTry: ago(-time.Hour)},
				state.Row{UID: "3", Phase: state.Refused, Tries: 1, NextTry: ago(-time.Hour), Content: sum("c3")}),
			policy: partial,
			want:   "probe 1\nprobe 3\nprobe 4\n",
		},
		{
			name:    "numbers are believed where all messages are listed",
			listing: entries("1", "2"),
			rows:    byKey(landed("1", ago(day)), landed("2", ago(day))),
			policy:  forever,
			want:    "kept 2\n",
		},
		{
			name:    "an unconfirmed deletion casts doubt on all others, if no header shows what came of it",
			listing: entries("1", "2"),
			rows:    byKey(missing(undeleted, ago(day)), landed("2", ago(day))),
			headers: map[int]state.Sum{},
			policy:  asked(forever),
			want:    "compare 1 \"1\"\ncompare 2 \"2\"\nmissing \"2\"\n",
		},
		{
			name:    "one message that is certainly gone casts doubt on the others, though another came back",
			listing: entries("a", "b", "c"),
			rows:    byKey(deleted("a", ago(day)), deleted("b", ago(day)), landed("c", ago(day))),
			headers: map[int]state.Sum{1: sum("new"), 2: sum("hb")},
			policy:  forever,
			want:    "probe 3\n",
		},
		{
			name:    "it does so although its header was not to be had before",
			listing: entries("a", "b"),
			rows:    byKey(tried, landed("b", ago(day))),
			headers: map[int]state.Sum{1: sum("new")},
			policy:  forever,
			want:    "probe 2\n",
		},
		{
			name:    "it does not do so again while its header is not to be had",
			listing: entries("a", "b"),
			rows:    byKey(tried, landed("b", ago(day))),
			headers: map[int]state.Sum{},
			policy:  forever,
			want:    "compare 1 \"a\"\nkept 1\n",
		},
		{
			name:    "a session compares no more messages than it fetches",
			listing: entries("a", "b", "c"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), missing(landed("b", ago(day)), ago(day))),
			headers: map[int]state.Sum{},
			policy:  fetch.Policy{Keep: fetch.Keep{Forever: true}, Limit: 1},
			want:    "compare 1 \"a\"\nmore 2\n",
		},
		{
			name:    "a header casts no doubt if there is none to compare it with",
			listing: entries("a", "b"),
			rows:    byKey(missing(state.Row{UID: "a", Phase: state.Refused, Tries: 1}, ago(day)), landed("b", ago(day))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  forever,
			want:    "fetch 1 \"a\"\nkept 1\nfound \"a\"\n",
		},
		{
			name:    "a message that may be one whose promise is not settled is compared with it",
			listing: entries("a", "b"),
			rows:    byKey(missing(suspect("a", 0), ago(day))),
			headers: map[int]state.Sum{},
			policy:  fetch.Policy{Open: map[string]bool{"a": true}},
			want:    "compare 2 \"b\"\nopen 1\n",
		},
		{
			name:    "a message known as one whose promise is not settled keeps the old key until it is",
			listing: entries("b"),
			rows:    byKey(suspect("a", 0)),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  fetch.Policy{Open: map[string]bool{"a": true}},
			want:    "open 1\nmissing \"a\"\n",
		},
		{
			name:    "a message that proved too large is too large, though the server lists no sizes",
			listing: []pop3proto.Entry{{Num: 1, UID: "a"}},
			rows:    byKey(refused("a", ago(0))),
			policy:  fetch.Policy{MaxSize: 99},
			want:    "large 1 \"a\"\n",
		},
	})
}

// Where a session has a cap, messages are fetched in the order of their numbers.
func TestPlanCapInOrder(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "with unique-ids",
			listing: entries("c", "b", "a"),
			policy:  fetch.Policy{Limit: 2},
			want:    "fetch 1 \"c\"\nfetch 2 \"b\"\nmore 1\n",
		},
		{
			name:    "without unique-ids",
			listing: entries("x", "x", ""),
			headers: map[int]state.Sum{1: sum("one"), 2: sum("two"), 3: sum("three")},
			policy:  fetch.Policy{Limit: 2},
			want:    fmt.Sprintf("fetch 1 %q\nfetch 2 %q\nmore 1\n", state.KeyOf(sum("one"), 0), state.KeyOf(sum("two"), 0)),
		},
	})
}
