package fetch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func ago(d time.Duration) int64 { return noon.Add(-d).Unix() }

// entries makes a listing of messages of 100 octets, numbered from 1.
func entries(uids ...string) []pop3proto.Entry {
	es := make([]pop3proto.Entry, len(uids))
	for i, uid := range uids {
		es[i] = pop3proto.Entry{Num: i + 1, UID: uid, Size: 100}
	}
	return es
}

func sum(s string) (sum state.Sum) {
	copy(sum[:], s)
	return sum
}

func landed(uid string, at int64) state.Row {
	return state.Row{UID: uid, Phase: state.Landed, Size: 100, Landed: at, Header: sum("h" + uid), Content: sum("c" + uid)}
}

func deleted(uid string, at int64) state.Row {
	r := landed(uid, at)
	r.Phase, r.Deleted = state.Deleted, at
	return r
}

func refused(uid string, next int64) state.Row {
	return state.Row{UID: uid, Phase: state.Refused, Size: 100, Tries: 1, NextTry: next, Header: sum("h" + uid)}
}

func suspect(uid string, since int64) state.Row {
	return state.Row{UID: uid, Phase: state.Promised, Size: 100, NextTry: since, Header: sum("h" + uid), Content: sum("c" + uid)}
}

func adopted(uid string) state.Row {
	return state.Row{UID: uid, Phase: state.Adopted, Size: 100}
}

func adoptedAs(uid, header string) state.Row {
	r := adopted(uid)
	r.Header = sum(header)
	return r
}

func missing(r state.Row, since int64) state.Row {
	r.Missing = since
	return r
}

func byKey(rows ...state.Row) []state.Row {
	slices.SortFunc(rows, func(a, b state.Row) int { return strings.Compare(a.UID, b.UID) })
	return rows
}

// asked returns the policy once all headers were asked for.
func asked(pol fetch.Policy) fetch.Policy {
	pol.NoMoreHeaders = true
	return pol
}

// outline writes down a plan in few words.
func outline(p fetch.Plan) string {
	var b strings.Builder
	wants := func(what string, ws []fetch.Want) {
		for _, w := range ws {
			fmt.Fprintf(&b, "%s %d %q\n", what, w.Num, w.Key)
		}
	}
	for _, e := range p.Probe {
		fmt.Fprintf(&b, "probe %d\n", e.Num)
	}
	wants("fetch", p.Fetch)
	wants("verify", p.Compare)
	wants("large", p.Large)
	for _, l := range p.Delete {
		fmt.Fprintf(&b, "delete %d %q\n", l.Num, l.Key)
	}
	count := func(what string, n int) {
		if n > 0 {
			fmt.Fprintf(&b, "%s %d\n", what, n)
		}
	}
	count("kept", p.Kept)
	count("waiting", p.Waiting)
	count("open", p.Open)
	count("more", p.More)
	count("unclear", p.Unclear)
	if p.UIDsChanged {
		b.WriteString("renamed\n")
	}
	for _, r := range p.Learned.Rekey {
		fmt.Fprintf(&b, "rekey %q to %q\n", r.From, r.To)
	}
	keys := func(what string, keys []string) {
		for _, k := range keys {
			fmt.Fprintf(&b, "%s %q\n", what, k)
		}
	}
	keys("missing", p.Learned.Missing)
	keys("found", p.Learned.Found)
	keys("restored", p.Learned.Restored)
	keys("forget", p.Learned.Forget)
	for _, i := range p.Stale { // unless it is what is compared
		keys("forget", []string{p.Candidates[i].UID})
	}
	return b.String()
}

// planCase is a listing, what is remembered, and the outline of the plan that is made of
// them at noon.
type planCase struct {
	name    string
	listing []pop3proto.Entry
	rows    []state.Row
	headers map[int]state.Sum
	policy  fetch.Policy
	want    string
}

func testPlan(t *testing.T, tests []planCase) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.policy.Now = noon
			got := outline(fetch.MakePlan(test.listing, test.rows, test.headers, test.policy))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

var forever = fetch.Policy{Keep: fetch.Keep{Forever: true}}

func TestPlan(t *testing.T) {
	sumKey := func(s string) string { h := sum(s); return "\x00" + string(h[:]) }
	testPlan(t, []planCase{
		{name: "nothing at all"},
		{
			name:    "new messages",
			listing: entries("b", "a"),
			want:    "fetch 1 \"b\"\nfetch 2 \"a\"\n",
		},
		{
			name:    "landed and not yet deleted: no second download",
			listing: entries("a", "b"),
			rows:    byKey(landed("a", ago(time.Minute))),
			want:    "fetch 2 \"b\"\ndelete 1 \"a\"\n",
		},
		{
			name:    "keep: 14d deletes what is due and only that",
			listing: entries("old", "exact", "young"),
			rows:    byKey(landed("old", ago(15*day)), landed("exact", ago(14*day)), landed("young", ago(13*day))),
			policy:  fetch.Policy{Keep: fetch.Keep{For: 14 * day}},
			want:    "delete 2 \"exact\"\ndelete 1 \"old\"\nkept 1\n",
		},
		{
			name:    "keep: forever",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(1000*day))),
			policy:  forever,
			want:    "kept 1\n",
		},
		{
			name:    "--keep deletes nothing",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(day))),
			policy:  fetch.Policy{KeepAll: true},
			want:    "kept 1\n",
		},
		{
			name:    "refused messages wait for their pause to end",
			listing: entries("due", "early"),
			rows:    byKey(refused("due", ago(0)), refused("early", ago(-time.Second))),
			want:    "fetch 1 \"due\"\nwaiting 1\n",
		},
		{
			name:    "a pause longer than there are was noted by a clock that was wrong",
			listing: entries("a", "b"),
			rows:    byKey(refused("a", ago(-24*time.Hour)), refused("b", ago(-26*time.Hour))),
			want:    "fetch 2 \"b\"\nwaiting 1\n",
		},
		{
			name:    "what landed by a clock that was ahead is deleted at once, if it is not to be kept",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(-1000*day))),
			want:    "delete 1 \"a\"\n",
		},
		{
			name:    "and stays longer, if it is",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(-1000*day))),
			policy:  fetch.Policy{Keep: fetch.Keep{For: day}},
			want:    "kept 1\n",
		},
		{
			name:    "a deleted message that is listed again is looked at",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day))),
			policy:  forever,
			want:    "probe 1\n",
		},
		{
			name:    "it was restored, and is deleted again",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(2*day)), landed("b", ago(0))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  fetch.Policy{Keep: fetch.Keep{For: day}},
			want:    "delete 1 \"a\"\nkept 1\nrestored \"a\"\n",
		},
		{
			name:    "it has another size, as another message with one header for all would",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 101}},
			rows:    byKey(deleted("a", ago(2*day))),
			headers: map[int]state.Sum{1: sum("ha")},
			want:    "verify 1 \"a\"\n",
		},
		{
			name:    "it is another: no unique-id is believed",
			listing: entries("a", "b", "c"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day)), adoptedAs("c", "hc")),
			headers: map[int]state.Sum{1: sum("hb")},
			want:    "probe 2\nprobe 3\n",
		},
		{
			name:    "all are found by their headers",
			listing: entries("a", "b", "c"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day)), adoptedAs("c", "hc")),
			headers: map[int]state.Sum{1: sum("hb"), 2: sum("hc"), 3: sum("new")},
			policy:  asked(forever),
			want: fmt.Sprintf("verify 3 \"c\"\nkept 2\nrekey \"b\" to \"a\"\nrekey \"c\" to \"b\"\nrekey \"a\" to %q\n",
				sumKey("ha")),
		},
		{
			name:    "what no header tells is compared, what was deleted first, and in doubt until then",
			listing: entries("a", "b", "c", "d", "e"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), deleted("c", ago(day)), adopted("d"), refused("e", 0)),
			headers: map[int]state.Sum{2: sum("hb")},
			policy:  asked(forever),
			want:    "fetch 5 \"e\"\nverify 3 \"c\"\nverify 1 \"a\"\nkept 2\nmissing \"a\"\n",
		},
		{
			name:    "what is new is compared with all that is gone, if sizes tell nothing",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 101}, {Num: 2, UID: "c", Size: 100}, {Num: 3, UID: "d", Size: 100}, {Num: 4, UID: "new", Size: 90}},
			rows:    byKey(deleted("a", ago(2*day)), missing(landed("b", ago(3*day)), ago(2*day)), adopted("c"), adopted("d")),
			headers: map[int]state.Sum{},
			policy:  asked(forever),
			want:    "verify 1 \"a\"\nverify 4 \"new\"\nkept 2\n",
		},
		{
			name:    "a promise that no sink can answer for keeps its unique-id meanwhile",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(day)), state.Row{UID: "b", Phase: state.Promised, Content: sum("cb"), Header: sum("hb")}),
			headers: map[int]state.Sum{1: sum("hb"), 2: sum("new")},
			policy:  asked(fetch.Policy{Open: map[string]bool{"b": true}}),
			want:    fmt.Sprintf("verify 1 \"a\"\nopen 1\nrekey \"a\" to %q\nmissing \"b\"\n", sumKey("ha")),
		},
		{
			name:    "what was adopted is neither fetched nor deleted",
			listing: entries("a", "b"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(day)), missing(adopted("c"), ago(31*day)), adopted("d")),
			policy:  fetch.Policy{MaxSize: 1},
			want:    "kept 2\nmissing \"d\"\nfound \"b\"\nforget \"c\"\n",
		},
		{
			name:    "adopted messages that are all gone ask for no headers",
			listing: entries("new"),
			rows:    byKey(adopted("a"), adopted("b")),
			want:    "fetch 1 \"new\"\nmissing \"a\"\nmissing \"b\"\n",
		},
		{
			name:    "what has no name may have been adopted",
			listing: entries("", "a"),
			rows:    byKey(adopted("a"), adopted("b")),
			headers: map[int]state.Sum{1: sum("new")},
			want:    "kept 1\nunclear 1\nmissing \"b\"\n",
		},
		{
			name:    "all that was adopted may have been renamed",
			listing: entries("x", "y", "z"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(time.Hour)), adopted("c")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nfetch 3 \"z\"\nrenamed\nmissing \"a\"\nmissing \"c\"\n",
		},
		{
			name:    "not if some of it has been missing for long",
			listing: entries("x", "y"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(2*day)), adopted("c")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nmissing \"a\"\nmissing \"c\"\n",
		},
		{
			name:    "not if one of it is there",
			listing: entries("x", "y", "z", "d"),
			rows:    byKey(adopted("a"), adopted("b"), adopted("c"), adopted("d")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nfetch 3 \"z\"\nkept 1\nmissing \"a\"\nmissing \"b\"\nmissing \"c\"\n",
		},
		{
			name:    "what its header tells is none of these",
			listing: entries("x", "y", "z"),
			rows:    byKey(adopted("a"), adopted("b"), adopted("c"), landed("m", ago(day))),
			headers: map[int]state.Sum{1: sum("hm"), 2: sum("h2"), 3: sum("h3")},
			policy:  forever,
			want:    "fetch 2 \"y\"\nfetch 3 \"z\"\nkept 1\nrekey \"m\" to \"x\"\nmissing \"a\"\nmissing \"b\"\nmissing \"c\"\n",
		},
		{
			name:    "a message without a unique-id that was adopted is known by its header",
			listing: entries("", ""),
			rows:    byKey(state.Row{UID: sumKey("one"), Phase: state.Adopted, Header: sum("one")}),
			headers: map[int]state.Sum{1: sum("two"), 2: sum("one")},
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\n", sumKey("two")),
		},
		{
			name:    "a message over the limit is left, others are not",
			listing: []pop3proto.Entry{{Num: 1, UID: "big", Size: 101}, {Num: 2, UID: "fits", Size: 100}},
			policy:  fetch.Policy{MaxSize: 100},
			want:    "fetch 2 \"fits\"\nlarge 1 \"big\"\n",
		},
		{
			name:    "a message that was too large is fetched once the limit allows it",
			listing: entries("a"),
			rows:    byKey(refused("a", 0)),
			want:    "fetch 1 \"a\"\n",
		},
		{
			name:    "the session's cap",
			listing: entries("a", "b", "c"),
			policy:  fetch.Policy{Limit: 2},
			want:    "fetch 1 \"a\"\nfetch 2 \"b\"\nmore 1\n",
		},
		{
			name:    "what a poll ended over comes late, in turn, and the cap does not give it the others' place",
			listing: entries("a", "b", "c", "d", "e"),
			rows:    byKey(suspect("a", ago(day)), suspect("b", ago(2*day)), suspect("e", ago(0))),
			policy:  fetch.Policy{Limit: 4},
			want:    "fetch 3 \"c\"\nfetch 4 \"d\"\nfetch 2 \"b\"\nfetch 1 \"a\"\nmore 1\n",
		},
		{
			name:    "it comes after what only waited, however long that has been due",
			listing: entries("a", "b", "c"),
			rows:    byKey(suspect("a", ago(day)), refused("b", ago(0)), refused("c", ago(day))),
			want:    "fetch 3 \"c\"\nfetch 2 \"b\"\nfetch 1 \"a\"\n",
		},
		{
			name:    "a partial listing forgets nothing for 30 days",
			listing: entries("a"),
			rows: byKey(landed("a", ago(day)), landed("b", ago(day)),
				missing(landed("c", ago(90*day)), ago(29*day)), missing(landed("d", ago(90*day)), ago(31*day)),
				deleted("e", ago(29*day)), deleted("f", ago(31*day))),
			policy: forever,
			want:   "kept 1\nmissing \"b\"\nforget \"d\"\nforget \"f\"\n",
		},
		{
			name: "an empty listing forgets nothing at all",
			rows: byKey(landed("b", ago(day)), missing(landed("d", ago(90*day)), ago(31*day)), deleted("f", ago(31*day))),
			want: "missing \"b\"\n",
		},
		{
			name:    "a message that is listed again is looked at",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), landed("b", ago(day))),
			policy:  forever,
			want:    "probe 1\n",
		},
		{
			name:    "it is the one that was listed before",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), landed("b", ago(day))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  forever,
			want:    "kept 2\nfound \"a\"\n",
		},
		{
			name:    "it is another, or may be, and is compared",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), missing(landed("b", ago(day)), ago(day))),
			headers: map[int]state.Sum{1: sum("other")},
			policy:  asked(forever),
			want:    fmt.Sprintf("verify 1 \"a\"\nverify 2 \"b\"\nrekey \"a\" to %q\n", sumKey("ha")),
		},
		{
			name:    "what some sinks have is not given to the others before it is compared",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Refused, Missing: ago(day), Content: sum("ca")}),
			headers: map[int]state.Sum{},
			want:    "verify 1 \"a\"\n",
		},
		{
			name:    "what was adopted and was missing is looked at",
			listing: entries("a", "b"),
			rows:    byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adopted("b"), ago(day))),
			want:    "probe 1\n",
		},
		{
			name:    "what has the unique-id of an adopted message, and another header, is new",
			listing: entries("a", "b"),
			rows:    byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adoptedAs("b", "hb"), ago(day))),
			headers: map[int]state.Sum{1: sum("other"), 2: {}},
			want:    "fetch 1 \"a\"\nfetch 2 \"b\"\n",
		},
		{
			name:    "it is not if it has the header of another, or nobody knows",
			listing: entries("a", "b", "c"),
			rows: byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adoptedAs("b", "hb"), ago(day)),
				missing(adoptedAs("c", "hc"), ago(day))),
			headers: map[int]state.Sum{1: sum("hb"), 3: sum("hc")},
			want:    "kept 3\nfound \"c\"\n",
		},
		{
			name:    "a comparison that failed has its pause",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Landed, Missing: ago(day), Content: sum("ca"), NextTry: ago(-time.Second)}),
			want:    "waiting 1\n",
		},
		{
			name:    "two messages with one unique-id need a look at their headers",
			listing: entries("x", "x", "y"),
			want:    "probe 1\nprobe 2\n",
		},
		{
			name:    "two messages with one unique-id are both fetched",
			listing: entries("x", "x"),
			headers: map[int]state.Sum{1: sum("one"), 2: sum("two")},
			want:    fmt.Sprintf("fetch 1 %q\nfetch 2 %q\n", sumKey("one"), sumKey("two")),
		},
		{
			name:    "so are two with one header",
			listing: entries("", ""),
			headers: map[int]state.Sum{1: sum("one"), 2: sum("one")},
			want:    fmt.Sprintf("fetch 1 %q\nfetch 2 %q\n", sumKey("one"), sumKey("one")+"+1"),
		},
		{
			name:    "messages without a unique-id are known by their header",
			listing: entries("", ""),
			rows:    byKey(state.Row{UID: sumKey("one"), Phase: state.Landed, Header: sum("one")}),
			headers: map[int]state.Sum{1: sum("two"), 2: sum("one")},
			policy:  forever,
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\n", sumKey("two")),
		},
		{
			name:    "a remembered unique-id that became ambiguous is no key any more",
			listing: entries("x", "x"),
			rows:    byKey(landed("x", ago(day))),
			headers: map[int]state.Sum{1: sum("new"), 2: sum("hx")},
			policy:  forever,
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\nrekey \"x\" to %q\n", sumKey("new"), sumKey("hx")),
		},
		{
			name:    "and is one again when it is unique again",
			listing: entries("x"),
			rows:    byKey(state.Row{UID: sumKey("hx"), Phase: state.Landed, Header: sum("hx")}),
			headers: map[int]state.Sum{1: sum("hx")},
			policy:  forever,
			want:    fmt.Sprintf("kept 1\nrekey %q to \"x\"\n", sumKey("hx")),
		},
		{
			name:    "all unique-ids changed: look at the headers first",
			listing: entries("n1", "n2", "n3"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			policy:  forever,
			want:    "probe 1\nprobe 2\nprobe 3\n",
		},
		{
			name:    "all unique-ids changed: only what is new is fetched",
			listing: entries("n1", "n2", "n3"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			headers: map[int]state.Sum{1: sum("ho2"), 2: sum("other"), 3: sum("ho1")},
			policy:  forever,
			want:    "fetch 2 \"n2\"\nkept 2\nrekey \"o2\" to \"n1\"\nrekey \"o1\" to \"n3\"\n",
		},
		{
			name:    "one kept message gone among many is no migration",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 100}, {Num: 2, UID: "b", Size: 100}, {Num: 3, UID: "new", Size: 99}},
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			policy:  forever,
			want:    "fetch 3 \"new\"\nkept 2\nmissing \"c\"\n",
		},
		{
			name:    "but what has its size is looked at",
			listing: entries("a", "b", "new"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			policy:  forever,
			want:    "probe 3\n",
		},
		{
			name:    "and compared, if its header is not to be had",
			listing: entries("a", "b", "new"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			headers: map[int]state.Sum{},
			policy:  forever,
			want:    "verify 3 \"new\"\nkept 2\nmissing \"c\"\n",
		},
		{
			name:    "migration to a server without TOP: contents are compared",
			listing: entries("n1", "n2"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			headers: map[int]state.Sum{},
			policy:  forever,
			want:    "verify 1 \"n1\"\nverify 2 \"n2\"\nmissing \"o1\"\nmissing \"o2\"\n",
		},
		{
			name:    "what is promised and was not kept is fetched again",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Promised}, state.Row{UID: "b", Phase: state.Promised}),
			want:    "fetch 1 \"a\"\nmissing \"b\"\n",
		},
		{
			name:    "a promise that no sink can answer for is left alone",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Promised}, state.Row{UID: "b", Phase: state.Promised}),
			policy:  fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:    "open 1\nmissing \"b\"\n",
		},
		{
			name:    "and stays in doubt once it was missing",
			listing: entries("a"),
			rows: byKey(missing(state.Row{UID: "a", Phase: state.Promised, Content: sum("ca")}, ago(day)),
				missing(state.Row{UID: "b", Phase: state.Promised}, ago(40*day))),
			policy: fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:   "open 1\n",
		},
		{
			name:    "and keeps its unique-id, whatever its message is listed by",
			listing: entries("x", "twice", "twice"),
			rows: byKey(state.Row{UID: "a", Phase: state.Promised, Header: sum("ha")},
				state.Row{UID: "b", Phase: state.Promised, Header: sum("hb")}),
			headers: map[int]state.Sum{1: sum("ha"), 2: sum("hb"), 3: sum("new")},
			policy:  fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:    fmt.Sprintf("fetch 3 %q\nopen 2\n", sumKey("new")),
		},
		{
			name:    "what has not come in whole waits, though it may be what is missing",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Refused, Size: 100, Tries: 1, NextTry: ago(-time.Hour)}, landed("b", ago(0))),
			want:    "waiting 1\nmissing \"b\"\n",
		},
		{
			name:    "what is compared with is forgotten later, but it is",
			listing: entries(""),
			rows:    byKey(missing(landed("m", ago(90*day)), ago(31*day)), missing(landed("n", ago(90*day)), ago(61*day))),
			headers: map[int]state.Sum{},
			want:    "verify 1 \"\"\nforget \"n\"\n",
		},
		{
			name:    "of two with one header, the one without a unique-id is what has none",
			listing: []pop3proto.Entry{{Num: 1, Size: 20}},
			rows: byKey(
				state.Row{UID: sumKey("h"), Phase: state.Refused, Header: sum("h"), Content: sum("never landed"), Size: 20, Tries: 1, NextTry: ago(day)},
				state.Row{UID: "5", Phase: state.Landed, Header: sum("h"), Content: sum("landed"), Size: 10, Landed: ago(day), Missing: ago(day)}),
			headers: map[int]state.Sum{1: sum("h")},
			want:    fmt.Sprintf("fetch 1 %q\n", sumKey("h")),
		},
		{
			name: "numbers are the server's",
			listing: []pop3proto.Entry{
				{Num: 7, UID: "a"}, {Num: 3, UID: "b"},
			},
			want: "fetch 3 \"b\"\nfetch 7 \"a\"\n",
		},
	})
}

// Unique-ids are message numbers; "1" was deleted, so that all move up by one. What
// was "3", which one of two sinks has, is "2" now: the name of a row of which nothing
// is known.
func TestPlanHeaderBeforeBlankName(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	h := func(b byte) state.Sum { return state.Sum{b} }
	rows := []state.Row{
		{UID: "1", Phase: state.Deleted, Size: 100, Header: h(1), Content: h(1), Landed: 1, Deleted: now.Unix() - 60},
		{UID: "2", Phase: state.Refused, Tries: 1, NextTry: 1, Reason: "refused before it came in"},
		{UID: "3", Phase: state.Refused, Header: h(3), Content: h(3), Tries: 1, NextTry: 1, Reason: "a sink was down"},
	}
	listing := []pop3proto.Entry{{Num: 1, UID: "1", Size: 110}, {Num: 2, UID: "2", Size: 121}}
	p := fetch.MakePlan(listing, rows, map[int]state.Sum{1: h(2), 2: h(3)}, fetch.Policy{Now: now, NoMoreHeaders: true})
	for _, w := range p.Fetch {
		if w.Num == 2 && (w.Row == nil || w.Row.UID != "3") {
			t.Errorf("message 2, which has the header of row 3, is fetched as that of %+v", w.Row)
		}
	}
	if len(p.Fetch) != 2 {
		t.Errorf("fetch %+v", p.Fetch)
	}
}
