package fetch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// Adopt with Before adopts what was received before that day. The date of the first
// Received field counts, and the Date field only where there is none. A message without a
// date is fetched.
func TestAdoptBefore(t *testing.T) {
	for _, without := range [][]string{nil, {"UIDL"}} {
		t.Run(fmt.Sprint("without ", without), func(t *testing.T) {
			r := newRig(t, pop3test.Behaviour{Without: without})
			day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			dated := func(field string, at time.Time) string { return field + at.Format(time.RFC1123Z) + "\n" }
			const received = "Received: from a by b;\n\t"
			for i, header := range []string{
				dated("Date: ", day.Add(-time.Hour)),
				dated(received, day.Add(-time.Second)) + dated("Date: ", day.Add(time.Hour)),
				dated("Date: ", day),
				dated(received, day.Add(time.Hour)) + dated(received, day.Add(-time.Hour)) + dated("Date: ", day.Add(-time.Hour)),
				"Date: yesterday\n",
			} {
				r.drop.Add(fmt.Sprint("m", i), []byte(header+fmt.Sprintf("Message-ID: <%d@example.org>\n\nHello %d.\n", i, i)))
			}
			var found fetch.Adoption
			check(t, r.account.Adopt(t.Context(), r.opts, fetch.Old{Before: day}, func(a fetch.Adoption) error {
				found = a
				return r.remember(a)
			}))
			if found.Listed != 5 || len(found.New) != 2 || found.Later != 2 || found.Undated != 1 || found.Keyless != 0 {
				t.Errorf("found %+v", found)
			}
			r.mustPoll()
			r.expectRetrieved(3)
			if left := r.left(); len(left) != 2 {
				t.Errorf("left %q, want the two that are older", left)
			}
		})
	}
}

// Adopt with Before fails on a server without TOP, since it needs the headers.
func TestAdoptBeforeWithoutTOP(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{Without: []string{"TOP"}})
	r.drop.Add("a", []byte(message(1)))
	err := r.account.Adopt(t.Context(), r.opts, fetch.Old{Before: noon}, func(a fetch.Adoption) error {
		t.Errorf("adopted %+v", a)
		return nil
	})
	if fetch.Classify(err) != fetch.ClassOperator || !strings.Contains(err.Error(), "no headers") || fetch.Hint(err) == "" {
		t.Errorf("error %v", err)
	}
}

// Adopt with Known adopts only the unique-ids that Known accepts, wherever they stand in
// the listing. It counts the others as unknown, and a poll fetches them.
func TestAdoptKnown(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.fill(4)
	var found fetch.Adoption
	known := fetch.Old{Known: func(uid string) bool { return uid == "u2" || uid == "u4" }}
	check(t, r.account.Adopt(t.Context(), r.opts, known, func(a fetch.Adoption) error {
		found = a
		return r.remember(a)
	}))
	if found.Listed != 4 || len(found.New) != 2 || found.Unknown != 2 || found.Keyless != 0 {
		t.Errorf("found %+v", found)
	}
	r.mustPoll()
	r.expectDelivered(message(1), message(3))
}
