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

// entries returns a listing of messages of 100 octets, numbered from 1.
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

// asked returns the policy of a plan for which all headers were asked for.
func asked(pol fetch.Policy) fetch.Policy {
	pol.NoMoreHeaders = true
	return pol
}

// outline writes a plan in few words, a line for each message or count.
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
	wants("compare", p.Compare)
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
	for _, i := range p.Stale { // forgotten unless it is compared
		keys("forget", []string{p.Candidates[i].UID})
	}
	return b.String()
}

// planCase is a listing and what is remembered, and the outline of the plan that MakePlan
// makes of them at noon.
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

// keyOf returns the key of a row whose message has no unique-id, but this header.
func keyOf(header string) string {
	s := sum(header)
	return "\x00" + string(s[:])
}

// New messages are fetched, and landed ones deleted when they are due.
func TestPlan(t *testing.T) {
	testPlan(t, []planCase{
		{name: "nothing listed and nothing remembered"},
		{
			name:    "new messages are fetched",
			listing: entries("b", "a"),
			want:    "fetch 1 \"b\"\nfetch 2 \"a\"\n",
		},
		{
			name:    "a landed message is deleted, not fetched again",
			listing: entries("a", "b"),
			rows:    byKey(landed("a", ago(time.Minute))),
			want:    "fetch 2 \"b\"\ndelete 1 \"a\"\n",
		},
		{
			name:    "keep: 14d deletes what is due, and only that",
			listing: entries("old", "exact", "young"),
			rows:    byKey(landed("old", ago(15*day)), landed("exact", ago(14*day)), landed("young", ago(13*day))),
			policy:  fetch.Policy{Keep: fetch.Keep{For: 14 * day}},
			want:    "delete 2 \"exact\"\ndelete 1 \"old\"\nkept 1\n",
		},
		{
			name:    "keep: forever deletes nothing",
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
			name:    "a landing in the future, by a wrong clock, is due at once if mail is not kept",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(-1000*day))),
			want:    "delete 1 \"a\"\n",
		},
		{
			name:    "a landing in the future is due later if mail is kept",
			listing: entries("a"),
			rows:    byKey(landed("a", ago(-1000*day))),
			policy:  fetch.Policy{Keep: fetch.Keep{For: day}},
			want:    "kept 1\n",
		},
		{
			name: "messages are numbered by the server",
			listing: []pop3proto.Entry{
				{Num: 7, UID: "a"}, {Num: 3, UID: "b"},
			},
			want: "fetch 3 \"b\"\nfetch 7 \"a\"\n",
		},
	})
}

// Refused messages wait, and messages that ended a poll come last.
func TestPlanRefused(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "a refused message waits until its pause is over",
			listing: entries("due", "early"),
			rows:    byKey(refused("due", ago(0)), refused("early", ago(-time.Second))),
			want:    "fetch 1 \"due\"\nwaiting 1\n",
		},
		{
			name:    "a pause that is too long was recorded by a wrong clock, and does not count",
			listing: entries("a", "b"),
			rows:    byKey(refused("a", ago(-24*time.Hour)), refused("b", ago(-26*time.Hour))),
			want:    "fetch 2 \"b\"\nwaiting 1\n",
		},
		{
			name:    "a message that did not come in whole waits, though it may be a missing one",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Refused, Size: 100, Tries: 1, NextTry: ago(-time.Hour)}, landed("b", ago(0))),
			want:    "waiting 1\nmissing \"b\"\n",
		},
		{
			name:    "a comparison that failed has a pause",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Landed, Missing: ago(day), Content: sum("ca"), NextTry: ago(-time.Second)}),
			want:    "waiting 1\n",
		},
		{
			name:    "messages that ended a poll come last, in turn, and do not take the place of others",
			listing: entries("a", "b", "c", "d", "e"),
			rows:    byKey(suspect("a", ago(day)), suspect("b", ago(2*day)), suspect("e", ago(0))),
			policy:  fetch.Policy{Limit: 4},
			want:    "fetch 3 \"c\"\nfetch 4 \"d\"\nfetch 2 \"b\"\nfetch 1 \"a\"\nmore 1\n",
		},
		{
			name:    "messages that ended a poll come after those that only waited",
			listing: entries("a", "b", "c"),
			rows:    byKey(suspect("a", ago(day)), refused("b", ago(0)), refused("c", ago(day))),
			want:    "fetch 3 \"c\"\nfetch 2 \"b\"\nfetch 1 \"a\"\n",
		},
	})
}

// Messages over max_size are left, and a session takes no more than its cap.
func TestPlanLimits(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "a message over the limit is left, the others are fetched",
			listing: []pop3proto.Entry{{Num: 1, UID: "big", Size: 101}, {Num: 2, UID: "fits", Size: 100}},
			policy:  fetch.Policy{MaxSize: 100},
			want:    "fetch 2 \"fits\"\nlarge 1 \"big\"\n",
		},
		{
			name:    "a message that was over the limit is fetched once the limit is raised",
			listing: entries("a"),
			rows:    byKey(refused("a", 0)),
			want:    "fetch 1 \"a\"\n",
		},
		{
			name:    "a session has a cap",
			listing: entries("a", "b", "c"),
			policy:  fetch.Policy{Limit: 2},
			want:    "fetch 1 \"a\"\nfetch 2 \"b\"\nmore 1\n",
		},
	})
}

// A deleted message that is listed again was restored, or is another one with its unique-
// id. In the second case no unique-id is believed any more.
func TestPlanDeletedListedAgain(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "the header of a deleted message that is listed again is asked for",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day))),
			policy:  forever,
			want:    "probe 1\n",
		},
		{
			name:    "with the same header it was restored, and is deleted again",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(2*day)), landed("b", ago(0))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  fetch.Policy{Keep: fetch.Keep{For: day}},
			want:    "delete 1 \"a\"\nkept 1\nrestored \"a\"\n",
		},
		{
			name:    "with another size it may be another message, and is compared",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 101}},
			rows:    byKey(deleted("a", ago(2*day))),
			headers: map[int]state.Sum{1: sum("ha")},
			want:    "compare 1 \"a\"\n",
		},
		{
			name:    "with another header it is another message, and all unique-ids are in doubt",
			listing: entries("a", "b", "c"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day)), adoptedAs("c", "hc")),
			headers: map[int]state.Sum{1: sum("hb")},
			want:    "probe 2\nprobe 3\n",
		},
		{
			name:    "messages in doubt are found by their headers",
			listing: entries("a", "b", "c"),
			rows:    byKey(deleted("a", ago(day)), landed("b", ago(day)), adoptedAs("c", "hc")),
			headers: map[int]state.Sum{1: sum("hb"), 2: sum("hc"), 3: sum("new")},
			policy:  asked(forever),
			want: fmt.Sprintf("compare 3 \"c\"\nkept 2\nrekey \"b\" to \"a\"\nrekey \"c\" to \"b\"\nrekey \"a\" to %q\n",
				keyOf("ha")),
		},
		{
			name:    "messages in doubt without a header are compared, those first that were deleted",
			listing: entries("a", "b", "c", "d", "e"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), deleted("c", ago(day)), adopted("d"), refused("e", 0)),
			headers: map[int]state.Sum{2: sum("hb")},
			policy:  asked(forever),
			want:    "fetch 5 \"e\"\ncompare 3 \"c\"\ncompare 1 \"a\"\nkept 2\nmissing \"a\"\n",
		},
		{
			name:    "without headers and with sizes in doubt, a new message is compared with all that are missing",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 101}, {Num: 2, UID: "c", Size: 100}, {Num: 3, UID: "d", Size: 100}, {Num: 4, UID: "new", Size: 90}},
			rows:    byKey(deleted("a", ago(2*day)), missing(landed("b", ago(3*day)), ago(2*day)), adopted("c"), adopted("d")),
			headers: map[int]state.Sum{},
			policy:  asked(forever),
			want:    "compare 1 \"a\"\ncompare 4 \"new\"\nkept 2\n",
		},
		{
			name:    "a message in doubt does not get the unique-id of a promise that is not settled",
			listing: entries("a", "b"),
			rows:    byKey(deleted("a", ago(day)), state.Row{UID: "b", Phase: state.Promised, Content: sum("cb"), Header: sum("hb")}),
			headers: map[int]state.Sum{1: sum("hb"), 2: sum("new")},
			policy:  asked(fetch.Policy{Open: map[string]bool{"b": true}}),
			want:    fmt.Sprintf("compare 1 \"a\"\nopen 1\nrekey \"a\" to %q\nmissing \"b\"\n", keyOf("ha")),
		},
	})
}

// A message that is not listed is remembered for a time, and looked at when it is listed
// again.
func TestPlanMissing(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "a message that is not listed is forgotten after 30 days",
			listing: entries("a"),
			rows: byKey(landed("a", ago(day)), landed("b", ago(day)),
				missing(landed("c", ago(90*day)), ago(29*day)), missing(landed("d", ago(90*day)), ago(31*day)),
				deleted("e", ago(29*day)), deleted("f", ago(31*day))),
			policy: forever,
			want:   "kept 1\nmissing \"b\"\nforget \"d\"\nforget \"f\"\n",
		},
		{
			name: "an empty listing forgets nothing",
			rows: byKey(landed("b", ago(day)), missing(landed("d", ago(90*day)), ago(31*day)), deleted("f", ago(31*day))),
			want: "missing \"b\"\n",
		},
		{
			name:    "the header of a missing message that is listed again is asked for",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), landed("b", ago(day))),
			policy:  forever,
			want:    "probe 1\n",
		},
		{
			name:    "with the same header it is that message",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), landed("b", ago(day))),
			headers: map[int]state.Sum{1: sum("ha")},
			policy:  forever,
			want:    "kept 2\nfound \"a\"\n",
		},
		{
			name:    "with another header, or none, it is compared",
			listing: entries("a", "b"),
			rows:    byKey(missing(landed("a", ago(day)), ago(day)), missing(landed("b", ago(day)), ago(day))),
			headers: map[int]state.Sum{1: sum("other")},
			policy:  asked(forever),
			want:    fmt.Sprintf("compare 1 \"a\"\ncompare 2 \"b\"\nrekey \"a\" to %q\n", keyOf("ha")),
		},
		{
			name:    "a message that only some sinks have is compared before the others get it",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Refused, Missing: ago(day), Content: sum("ca")}),
			headers: map[int]state.Sum{},
			want:    "compare 1 \"a\"\n",
		},
		{
			name:    "rows are not forgotten while messages are compared with them",
			listing: entries(""),
			rows:    byKey(missing(landed("m", ago(90*day)), ago(31*day)), missing(landed("n", ago(90*day)), ago(61*day))),
			headers: map[int]state.Sum{},
			want:    "compare 1 \"\"\nforget \"n\"\n",
		},
	})
}

// Adopted messages are left alone, whatever their unique-ids are by now.
func TestPlanAdopted(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "an adopted message is neither fetched nor deleted",
			listing: entries("a", "b"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(day)), missing(adopted("c"), ago(31*day)), adopted("d")),
			policy:  fetch.Policy{MaxSize: 1},
			want:    "kept 2\nmissing \"d\"\nfound \"b\"\nforget \"c\"\n",
		},
		{
			name:    "if all adopted messages are missing, no headers are asked for",
			listing: entries("new"),
			rows:    byKey(adopted("a"), adopted("b")),
			want:    "fetch 1 \"new\"\nmissing \"a\"\nmissing \"b\"\n",
		},
		{
			name:    "a message without a unique-id may be an adopted one",
			listing: entries("", "a"),
			rows:    byKey(adopted("a"), adopted("b")),
			headers: map[int]state.Sum{1: sum("new")},
			want:    "kept 1\nunclear 1\nmissing \"b\"\n",
		},
		{
			name:    "if all adopted messages are missing, new ones may be these under other unique-ids",
			listing: entries("x", "y", "z"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(time.Hour)), adopted("c")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nfetch 3 \"z\"\nrenamed\nmissing \"a\"\nmissing \"c\"\n",
		},
		{
			name:    "new ones are not if some adopted message has been missing for long",
			listing: entries("x", "y"),
			rows:    byKey(adopted("a"), missing(adopted("b"), ago(2*day)), adopted("c")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nmissing \"a\"\nmissing \"c\"\n",
		},
		{
			name:    "new ones are not if one adopted message is listed",
			listing: entries("x", "y", "z", "d"),
			rows:    byKey(adopted("a"), adopted("b"), adopted("c"), adopted("d")),
			want:    "fetch 1 \"x\"\nfetch 2 \"y\"\nfetch 3 \"z\"\nkept 1\nmissing \"a\"\nmissing \"b\"\nmissing \"c\"\n",
		},
		{
			name:    "a message that is known by its header is not counted among the new ones",
			listing: entries("x", "y", "z"),
			rows:    byKey(adopted("a"), adopted("b"), adopted("c"), landed("m", ago(day))),
			headers: map[int]state.Sum{1: sum("hm"), 2: sum("h2"), 3: sum("h3")},
			policy:  forever,
			want:    "fetch 2 \"y\"\nfetch 3 \"z\"\nkept 1\nrekey \"m\" to \"x\"\nmissing \"a\"\nmissing \"b\"\nmissing \"c\"\n",
		},
		{
			name:    "an adopted message without a unique-id is known by its header",
			listing: entries("", ""),
			rows:    byKey(state.Row{UID: keyOf("one"), Phase: state.Adopted, Header: sum("one")}),
			headers: map[int]state.Sum{1: sum("two"), 2: sum("one")},
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\n", keyOf("two")),
		},
		{
			name:    "the header of an adopted message that is listed again is asked for",
			listing: entries("a", "b"),
			rows:    byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adopted("b"), ago(day))),
			want:    "probe 1\n",
		},
		{
			name:    "a message with the unique-id of an adopted one, and another header, is new",
			listing: entries("a", "b"),
			rows:    byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adoptedAs("b", "hb"), ago(day))),
			headers: map[int]state.Sum{1: sum("other"), 2: {}},
			want:    "fetch 1 \"a\"\nfetch 2 \"b\"\n",
		},
		{
			name:    "it is not new if it has the header of another adopted one, or none",
			listing: entries("a", "b", "c"),
			rows: byKey(missing(adoptedAs("a", "ha"), ago(day)), missing(adoptedAs("b", "hb"), ago(day)),
				missing(adoptedAs("c", "hc"), ago(day))),
			headers: map[int]state.Sum{1: sum("hb"), 3: sum("hc")},
			want:    "kept 3\nfound \"c\"\n",
		},
	})
}

// Messages whose promise is not settled are left alone.
func TestPlanPromises(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "a promise that was not kept is fetched again",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Promised}, state.Row{UID: "b", Phase: state.Promised}),
			want:    "fetch 1 \"a\"\nmissing \"b\"\n",
		},
		{
			name:    "a promise that is not settled is left alone",
			listing: entries("a"),
			rows:    byKey(state.Row{UID: "a", Phase: state.Promised}, state.Row{UID: "b", Phase: state.Promised}),
			policy:  fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:    "open 1\nmissing \"b\"\n",
		},
		{
			name:    "a promise that is not settled stays in doubt after its message was missing",
			listing: entries("a"),
			rows: byKey(missing(state.Row{UID: "a", Phase: state.Promised, Content: sum("ca")}, ago(day)),
				missing(state.Row{UID: "b", Phase: state.Promised}, ago(40*day))),
			policy: fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:   "open 1\n",
		},
		{
			name:    "a promise that is not settled keeps its key under whatever unique-id it is listed",
			listing: entries("x", "twice", "twice"),
			rows: byKey(state.Row{UID: "a", Phase: state.Promised, Header: sum("ha")},
				state.Row{UID: "b", Phase: state.Promised, Header: sum("hb")}),
			headers: map[int]state.Sum{1: sum("ha"), 2: sum("hb"), 3: sum("new")},
			policy:  fetch.Policy{Open: map[string]bool{"a": true, "b": true}},
			want:    fmt.Sprintf("fetch 3 %q\nopen 2\n", keyOf("new")),
		},
	})
}
