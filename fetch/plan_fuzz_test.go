package fetch_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// Whatever is listed and remembered, a plan has each message once, deletes only what has
// landed, and neither downloads nor deletes adopted mail.
func FuzzPlan(f *testing.F) {
	f.Add("a b b  c", "LaDb", byte(0))
	f.Add("a b c d", "\x00a\x04b\x00c\x04d\x01e\x03f", byte(0))
	f.Add("", "\x01a\x01b\x03c", byte(0))
	f.Fuzz(func(t *testing.T, uids, remembered string, limit byte) {
		listing := entries(strings.Split(uids, " ")...)
		rows := map[string]state.Row{}
		for i := 0; i+1 < len(remembered); i += 2 {
			uid := remembered[i+1 : i+2]
			switch remembered[i] % 7 {
			case 0:
				rows[uid] = landed(uid, ago(day))
			case 1:
				rows[uid] = deleted(uid, ago(40*day))
			case 2:
				rows[uid] = refused(uid, ago(-day))
			case 3:
				rows[uid] = missing(landed(uid, ago(day)), ago(day))
			case 4:
				rows[uid] = adopted(uid)
			case 5:
				rows[uid] = adoptedAs(uid, "h"+uid)
			case 6:
				rows[uid] = missing(adoptedAs(uid, "h"+uid), ago(day))
			}
		}
		var sorted []state.Row
		for _, r := range rows {
			sorted = append(sorted, r)
		}
		byKey(sorted...)
		pol := fetch.Policy{Now: noon, Limit: int(limit)}
		switch len(remembered) % 3 {
		case 1:
			pol.Keep.For = 36 * time.Hour
		case 2:
			pol.Keep.Forever = true
		}
		var rowStates []state.RowState
		for _, r := range sorted {
			rowStates = append(rowStates, r.State())
		}
		blind := fetch.MakePlan(listing, sorted, nil, pol)
		until, atRest := fetch.RestUntil(listing, rowStates, &pol)
		nothing := func(p fetch.Plan) bool {
			return len(p.Probe)+len(p.Fetch)+len(p.Compare)+len(p.Delete)+len(p.Large)+
				p.Waiting+p.Open+p.More == 0 && p.Learned.Empty() && p.Kept == len(listing)
		}
		if atRest != nothing(blind) {
			t.Errorf("at rest is %v, and the plan %+v", atRest, blind)
		}
		if atRest && until < math.MaxInt64 {
			later := pol
			later.Now = time.Unix(until-1, 0)
			if p := fetch.MakePlan(listing, sorted, nil, later); !nothing(p) {
				t.Errorf("at rest until %d, and a second before the plan is %+v", until, p)
			}
		}
		headers := map[int]state.Sum{}
		for _, e := range blind.Probe {
			headers[e.Num] = sum("h" + e.UID)
		}
		p := fetch.MakePlan(listing, sorted, headers, pol)
		seen := map[int]int{}
		for _, w := range slices.Concat(p.Fetch, p.Compare, p.Large) {
			seen[w.Num]++
		}
		for _, l := range p.Delete {
			seen[l.Num]++
		}
		for n, times := range seen {
			if times > 1 {
				t.Errorf("message %d is planned %d times", n, times)
			}
		}
		if all := len(seen) + p.Kept + p.Waiting + p.Open + p.More + p.Unclear; all != len(listing) {
			t.Errorf("%d of %d messages are planned", all, len(listing))
		}
		// No adopted message is downloaded or deleted, whatever unique-id it is
		// listed with now.
		byName := maps.Clone(rows)
		for _, k := range p.Learned.Rekey {
			byName[k.To] = rows[k.From]
		}
		for _, l := range p.Delete {
			if phase := byName[l.Key].Phase; phase != state.Landed && !slices.Contains(p.Learned.Restored, l.Key) {
				t.Errorf("message %d, which is %v, is deleted", l.Num, phase)
			}
		}
		for _, w := range slices.Concat(p.Fetch, p.Compare, p.Large) {
			if w.Row != nil && w.Row.Phase == state.Adopted || byName[w.Key].Phase == state.Adopted {
				t.Errorf("message %d was adopted and is downloaded", w.Num)
			}
		}
		keys := map[string]bool{}
		for _, w := range p.Fetch {
			if w.Key != "" && keys[w.Key] {
				t.Errorf("two messages are fetched under the key %q", w.Key)
			}
			keys[w.Key] = true
		}
	})
}
