package fetch

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/mailhaul/mailhaul/deliver/envelope"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// Adoption is what there is to adopt in a maildrop.
type Adoption struct {
	// Listed messages are on the server.
	Listed int
	// New are those of which nothing is remembered, and that are old enough.
	New []state.Adoption
	// Later ones are not, and of Undated ones it cannot be told.
	Later, Undated int
	// Nameless messages have neither a usable unique-id nor a header that
	// tells them from others. They cannot be remembered without a download,
	// and the next poll fetches them.
	Nameless int
}

// Adopt logs in, lists, quits, and has adopt remember the new messages
// (state.Store.Adopt), so that polls start from what comes in afterwards. With
// before, unless it is the zero time, it is only those that came in earlier, as
// their headers have it: the server is asked for these. What is remembered
// already stays as it is: a message that landed is deleted when it is due, and
// one that was refused is tried again. The account's lease is held all the
// while, so that adopt may ask a person first.
func (a *Account) Adopt(ctx context.Context, o Options, before time.Time, adopt func(Adoption) error) error {
	lease, err := o.State.Lease(ctx, a.Name)
	if err != nil {
		return err
	}
	defer lease.Release()
	// All of it, and with a name for each that does not change.
	all := *a
	all.MaxSize, all.MaxMessages, all.Keep = 0, math.MaxInt, Keep{Forever: true}
	s := &session{Account: &all, opts: &o, summary: new(Summary)}
	defer s.close()
	if err := s.survey(ctx); err != nil {
		return err
	}
	fresh := slices.DeleteFunc(slices.Concat(s.plan.Fetch, s.plan.Verify), func(w Want) bool { return w.Row != nil })
	dates := map[int]time.Time{}
	if !before.IsZero() && len(fresh) > 0 {
		var err error
		if dates, err = s.dates(ctx, fresh); err != nil {
			return err
		}
	}
	s.quit(ctx)

	found := Adoption{Listed: len(s.listing.Entries)}
	// What is not in the plan at all, look left out of it as nameless.
	found.Nameless = found.Listed - len(s.plan.Fetch) - len(s.plan.Verify) - s.plan.Kept - s.plan.Waiting
	for _, w := range fresh {
		switch date := dates[w.Num]; {
		case w.Key == "":
			found.Nameless++
		case !before.IsZero() && date.IsZero():
			found.Undated++
		case !before.IsZero() && !date.Before(before):
			found.Later++
		default:
			header, _, _ := state.Nameless(w.Key) // zero if it has a unique-id
			found.New = append(found.New, state.Adoption{UID: w.Key, Size: w.Size, Header: header})
		}
	}
	return adopt(found)
}

// maxHeader bounds how much of a header is looked at for its date. The topmost
// Received field stands at its start.
const maxHeader = 64 << 10

// dates returns when messages came in, by their numbers, as far as their headers
// say.
func (s *session) dates(ctx context.Context, of []Want) (map[int]time.Time, error) {
	var entries []pop3proto.Entry
	for _, w := range of {
		entries = append(entries, w.Entry)
	}
	dates := map[int]time.Time{}
	refused, err := s.headers(ctx, entries, func(num int, r io.Reader) {
		raw, _ := io.ReadAll(io.LimitReader(r, maxHeader)) // what came before an error will do
		dates[num] = envelope.Parse(raw).Date
	})
	if refused != nil {
		err = fmt.Errorf("%w: %w", errNoDates, refused)
	}
	return dates, err
}
