package state_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

func TestRowStates(t *testing.T) {
	s := open(t, t.TempDir())
	remember(t, s, "work", 3000)
	remember(t, s, "other", 2)
	ok(t, s.Adopt(t.Context(), "work", []state.Adoption{{UID: "adopted \xff"}, {UID: "adopted, gone"}}))
	ok(t, s.Refuse(t.Context(), "work", []state.Refusal{{UID: "refused"}, {UID: strings.Repeat("long", 20_000)}}))
	rows, err := s.Rows(t.Context(), "work")
	ok(t, err)
	apply(t, s, doDelete(1800000000, rows[1].UID, rows[7].UID))
	ok(t, s.Keep(t.Context(), "work", 1900000000, state.Housekeeping{Missing: []string{rows[1].UID, rows[2].UID, "adopted, gone"}}))
	rows, err = s.Rows(t.Context(), "work")
	ok(t, err)
	var want []state.RowState
	kinds := map[state.RowKind]int{}
	for _, r := range rows {
		want = append(want, r.State())
		kinds[r.State().Kind]++
	}
	got, err := s.RowStates(t.Context(), "work")
	ok(t, err)
	if diff := cmp.Diff(want, got); diff != "" || len(kinds) != 4 {
		t.Errorf("kinds %v; (-want +got):\n%s", kinds, diff)
	}
	if none, err := s.RowStates(t.Context(), "nobody"); len(none) != 0 || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}
