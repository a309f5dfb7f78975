package fetch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Messages without unique-ids, or with shared ones, are known by their headers.
func TestPlanWithoutUniqueIDs(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "the headers of messages that share a unique-id are asked for",
			listing: entries("x", "x", "y"),
			want:    "probe 1\nprobe 2\n",
		},
		{
			name:    "messages that share a unique-id are both fetched",
			listing: entries("x", "x"),
			headers: map[int]state.Sum{1: sum("one"), 2: sum("two")},
			want:    fmt.Sprintf("fetch 1 %q\nfetch 2 %q\n", keyOf("one"), keyOf("two")),
		},
		{
			name:    "messages that share a header are both fetched",
			listing: entries("", ""),
			headers: map[int]state.Sum{1: sum("one"), 2: sum("one")},
			want:    fmt.Sprintf("fetch 1 %q\nfetch 2 %q\n", keyOf("one"), keyOf("one")+"+1"),
		},
		{
			name:    "messages without a unique-id are known by their headers",
			listing: entries("", ""),
			rows:    byKey(state.Row{UID: keyOf("one"), Phase: state.Landed, Header: sum("one")}),
			headers: map[int]state.Sum{1: sum("two"), 2: sum("one")},
			policy:  forever,
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\n", keyOf("two")),
		},
		{
			name:    "a unique-id that is shared now is replaced by the header",
			listing: entries("x", "x"),
			rows:    byKey(landed("x", ago(day))),
			headers: map[int]state.Sum{1: sum("new"), 2: sum("hx")},
			policy:  forever,
			want:    fmt.Sprintf("fetch 1 %q\nkept 1\nrekey \"x\" to %q\n", keyOf("new"), keyOf("hx")),
		},
		{
			name:    "a unique-id that is no longer shared is used again",
			listing: entries("x"),
			rows:    byKey(state.Row{UID: keyOf("hx"), Phase: state.Landed, Header: sum("hx")}),
			headers: map[int]state.Sum{1: sum("hx")},
			policy:  forever,
			want:    fmt.Sprintf("kept 1\nrekey %q to \"x\"\n", keyOf("hx")),
		},
		{
			name:    "of two rows with one header, the one without a unique-id is the listed message",
			listing: []pop3proto.Entry{{Num: 1, Size: 20}},
			rows: byKey(
				state.Row{UID: keyOf("h"), Phase: state.Refused, Header: sum("h"), Content: sum("never landed"), Size: 20, Tries: 1, NextTry: ago(day)},
				state.Row{UID: "5", Phase: state.Landed, Header: sum("h"), Content: sum("landed"), Size: 10, Landed: ago(day), Missing: ago(day)}),
			headers: map[int]state.Sum{1: sum("h")},
			want:    fmt.Sprintf("fetch 1 %q\n", keyOf("h")),
		},
	})
}

// A server may give new unique-ids to known messages. They are found by their headers or
// contents.
func TestPlanRenamed(t *testing.T) {
	testPlan(t, []planCase{
		{
			name:    "all unique-ids are new: headers are asked for first",
			listing: entries("n1", "n2", "n3"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			policy:  forever,
			want:    "probe 1\nprobe 2\nprobe 3\n",
		},
		{
			name:    "all unique-ids are new: only new messages are fetched",
			listing: entries("n1", "n2", "n3"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			headers: map[int]state.Sum{1: sum("ho2"), 2: sum("other"), 3: sum("ho1")},
			policy:  forever,
			want:    "fetch 2 \"n2\"\nkept 2\nrekey \"o2\" to \"n1\"\nrekey \"o1\" to \"n3\"\n",
		},
		{
			name:    "a new message of another size is not the missing one",
			listing: []pop3proto.Entry{{Num: 1, UID: "a", Size: 100}, {Num: 2, UID: "b", Size: 100}, {Num: 3, UID: "new", Size: 99}},
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			policy:  forever,
			want:    "fetch 3 \"new\"\nkept 2\nmissing \"c\"\n",
		},
		{
			name:    "a new message of the same size may be the missing one",
			listing: entries("a", "b", "new"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			policy:  forever,
			want:    "probe 3\n",
		},
		{
			name:    "it is compared if it has no header",
			listing: entries("a", "b", "new"),
			rows:    byKey(landed("a", ago(day)), landed("b", ago(day)), landed("c", ago(day))),
			headers: map[int]state.Sum{},
			policy:  forever,
			want:    "compare 3 \"new\"\nkept 2\nmissing \"c\"\n",
		},
		{
			name:    "all unique-ids are new, and there are no headers: contents are compared",
			listing: entries("n1", "n2"),
			rows:    byKey(landed("o1", ago(day)), landed("o2", ago(day))),
			headers: map[int]state.Sum{},
			policy:  forever,
			want:    "compare 1 \"n1\"\ncompare 2 \"n2\"\nmissing \"o1\"\nmissing \"o2\"\n",
		},
	})
}

// Unique-ids are message numbers, and "1" was deleted, so that all move up by one. What
// was "3", which one of two sinks has, is "2" now, the unique-id of a row without a
// header. The header decides.
func TestPlanHeaderBeforeEmptyRow(t *testing.T) {
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
