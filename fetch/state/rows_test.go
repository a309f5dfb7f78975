package state_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// Retry ends the pauses of refused messages, and forgets nothing else of them.
func TestRetry(t *testing.T) {
	s := open(t, t.TempDir())
	large := refusal("large")
	large.NextTry = 0
	apply(t, s,
		doPromise(promise("partly", "home"), promise("partly", "archive")), doLand(100, "partly", "home"), doRetract("partly", "archive"), doRefuse(refusal("partly")),
		doRefuse(refusal("poison")), doRefuse(refusal("poison")), doRefuse(large),
		landed("deleted again", 1), doDelete(200, "deleted again"), doRefuse(refusal("deleted again")),
		landed("restored", 1), doRefuse(refusal("restored")), landed("compared", 1), doRefuse(refusal("compared")), doKeep(1, state.Housekeeping{Missing: []string{"compared"}}),
	)
	ok(t, s.Refuse(t.Context(), "other", []state.Refusal{refusal("poison")}))
	retry := func(want int64, uids ...string) {
		t.Helper()
		n, err := s.Retry(t.Context(), "work", 300, uids)
		ok(t, err)
		if n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
	}
	expect := func(want map[string][2]int64) {
		t.Helper()
		got := map[string][2]int64{}
		for _, r := range rows(t, s, "work") {
			got[r.UID] = [2]int64{int64(r.Tries), r.NextTry}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tries and times of the next (-want +got):\n%s", diff)
		}
	}
	before, err := s.Deliveries(t.Context(), "work", "partly")
	ok(t, err)

	retry(0, "large", "restored", "unknown")
	retry(1, "large", "partly")
	expect(map[string][2]int64{"large": {1, 0}, "partly": {0, 300}, "poison": {2, 500}, "deleted again": {1, 500}, "restored": {1, 500}, "compared": {1, 500}})
	retry(4) // one of them is due already
	expect(map[string][2]int64{"large": {1, 0}, "partly": {0, 300}, "poison": {0, 300}, "deleted again": {1, 300}, "restored": {1, 500}, "compared": {1, 300}})
	retry(2)

	after, err := s.Deliveries(t.Context(), "work", "partly")
	ok(t, err)
	if diff := cmp.Diff(before, after); diff != "" || len(after) != 2 {
		t.Errorf("%d deliveries (-before +after):\n%s", len(after), diff)
	}
	if r := rows(t, s, "other")[0]; r.Tries != 1 || r.NextTry != 500 {
		t.Errorf("of another account: %+v", r)
	}
}

func TestRowsBetween(t *testing.T) {
	s := open(t, t.TempDir())
	for _, uid := range []string{"\x00a", "a", "ab", "ac", "b", "\xff"} {
		apply(t, s, doRefuse(refusal(uid)))
	}
	for _, test := range []struct {
		from, before string
		most         int
		want         []string
	}{
		{"a", "b", 9, []string{"a", "ab", "ac"}},
		{"a", "b", 2, []string{"a", "ab"}},
		{"ab", "ab\x00", 9, []string{"ab"}},
		{"b", "", 9, []string{"b", "\xff"}},
		{"c", "d", 9, nil},
	} {
		rows, err := s.RowsBetween(t.Context(), "work", test.from, test.before, test.most)
		ok(t, err)
		var got []string
		for _, r := range rows {
			got = append(got, r.UID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("from %q before %q (-want +got):\n%s", test.from, test.before, diff)
		}
	}
}
