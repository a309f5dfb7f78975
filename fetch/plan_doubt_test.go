package fetch_test

import (
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Doubt is cast where mail may be lost or come twice without it, and nowhere else: all
// that is in doubt is looked at, in each poll.
func TestPlanInDoubt(t *testing.T) {
	partial := forever
	partial.Partial = true
	undeleted := landed("1", ago(2*day))
	undeleted.Deleted = ago(day)
	testPlan(t, []planCase{
		{
			name:    "a listing that is not whole casts none on unique-ids that are no numbers",
			listing: entries("a", "b"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day))),
			policy:  partial,
			want:    "kept 2\n",
		},
		{
			name:    "but on numbers: only what the server may fail over again is not asked for",
			listing: entries("1", "2", "3", "4"),
			rows: byKey(landed("1", ago(day)), state.Row{UID: "2", Phase: state.Refused, Tries: 1, NextTry: ago(-time.Hour)},
				state.Row{UID: "3", Phase: state.Refused, Tries: 1, NextTry: ago(-time.Hour), Content: sum("c3")}),
			policy: partial,
			want:   "probe 1\nprobe 3\nprobe 4\n",
		},
		{
			name:    "numbers are believed where all are listed",
			listing: entries("1", "2"),
			rows:    byKey(landed("1", ago(day)), landed("2", ago(day))),
			policy:  forever,
			want:    "kept 2\n",
		},
		{
			name:    "a deletion that was not confirmed casts doubt on all others, if no header tells what came of it",
			listing: entries("1", "2"),
			rows:    byKey(missing(undeleted, ago(day)), landed("2", ago(day))),
			headers: map[int]state.Sum{},
			policy:  asked(forever),
			want:    "verify 1 \"1\"\nverify 2 \"2\"\nmissing \"2\"\n",
		},
		{
			name:    "a header casts none if there was none to compare it with",
			listing: entries("a", "b"),
			rows:    byKey(missing(state.Row{UID: "a", Phase: state.Refused, Tries: 1}, ago(day)), landed("b", ago(day))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  forever,
			want:    "fetch 1 \"a\"\nkept 1\nfound \"a\"\n",
		},
		{
			name:    "what may be another name of one that no sink can answer for is compared with it",
			listing: entries("a", "b"),
			rows:    byKey(missing(suspect("a", 0), ago(day))),
			headers: map[int]state.Sum{},
			policy:  fetch.Policy{Open: map[string]bool{"a": true}},
			want:    "verify 2 \"b\"\nopen 1\n",
		},
		{
			name:    "by which that is not known until it can: its own may be other mail's then",
			listing: entries("b"),
			rows:    byKey(suspect("a", 0)),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  fetch.Policy{Open: map[string]bool{"a": true}},
			want:    "open 1\nmissing \"a\"\n",
		},
		{
			name:    "what proved to be too large is that, though the server does not tell sizes",
			listing: []pop3proto.Entry{{Num: 1, UID: "a"}},
			rows:    byKey(refused("a", ago(0))),
			policy:  fetch.Policy{MaxSize: 99},
			want:    "large 1 \"a\"\n",
		},
	})
}
