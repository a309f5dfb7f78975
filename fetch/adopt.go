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
	// New are those of which nothing is remembered, and that are Old.
	New []state.Adoption
	// Learned is what the listing taught about the rows (state.Store.Keep). It comes
	// first: a new message may have the unique-id that a row goes by.
	Learned state.Housekeeping
	// Later ones came in no earlier than Old.Before, and Undated ones have no date to
	// show whether they did. Unknown ones have a unique-id that is not Old.Known.
	Later, Undated, Unknown int
	// Keyless messages have neither a usable unique-id nor a header that
	// identifies them. They cannot be remembered without a download,
	// and the next poll fetches them. It leaves Unclear ones alone: they may be
	// adopted ones that lost their unique-ids, or the server gives no headers
	// and mail is kept on it.
	Keyless, Unclear int
}

// Old says which messages count as old. By the zero Old all do.
type Old struct {
	// Before, unless it is zero, is the time before which they came in, as their
	// headers say.
	Before time.Time
	// Known, unless it is nil, reports whether a unique-id is an old message's.
	Known func(uid string) bool
}

// Adopt logs in, lists, quits, and has adopt remember the messages that are new
// to mailhaul and old (state.Store.Keep and Adopt), so that polls start from the others.
// The server is asked for their headers, which identify them should it ever give them
// other unique-ids.
// What is remembered already stays as it is: a message that landed is deleted
// when it is due, and one that was refused is tried again. The account's lease is
// held all the while, so that adopt may ask a person first.
func (a *Account) Adopt(ctx context.Context, o Options, old Old, adopt func(Adoption) error) error {
	lease, err := o.State.Lease(ctx, a.Name)
	if err != nil {
		return err
	}
	defer lease.Release()
	ctx, cancel := a.withBudget(ctx)
	defer cancel()
	// Adopt concerns all messages, and gives each a key that does not change.
	all := *a
	all.MaxSize, all.MaxMessages, o.KeepAll = 0, math.MaxInt, true
	s := &session{visit: &visit{Account: &all, opts: &o, summary: new(Summary), adopting: true}}
	defer s.close()
	if err := s.survey(ctx); err != nil {
		return lookFailed(ctx, err)
	}
	fresh := slices.DeleteFunc(slices.Concat(s.plan.Fetch, s.plan.Compare), func(w Want) bool {
		return w.Row != nil && w.Row.Phase != state.Adopted // else that was another message
	})
	headers, refused, err := s.readHeaders(ctx, slices.DeleteFunc(slices.Clone(fresh), old.isUnknown))
	if refused != nil && !old.Before.IsZero() {
		err = fmt.Errorf("%w: %w", errNoDates, refused)
	}
	if err != nil {
		return lookFailed(ctx, err)
	}
	s.quitUnchanged(ctx)
	s.recordMaildrop()
	return adopt(s.adoption(fresh, headers, old))
}

// isUnknown reports whether Known says that a message is not an old one.
func (o Old) isUnknown(w Want) bool { return o.Known != nil && !o.Known(w.UID) }

// adoption sorts the messages of which nothing is remembered.
func (s *session) adoption(fresh []Want, headers map[int]headerInfo, old Old) Adoption {
	found := Adoption{Listed: len(s.listing.Entries), Learned: s.plan.Learned, Unclear: s.countLeftAlone()}
	for _, w := range fresh {
		switch date := headers[w.Num].date; {
		case w.Key == "":
			found.Keyless++
		case old.isUnknown(w):
			found.Unknown++
		case !old.Before.IsZero() && date.IsZero():
			found.Undated++
		case !old.Before.IsZero() && !date.Before(old.Before):
			found.Later++
		default:
			header, _, isDigest := state.SplitDigestKey(w.Key)
			if !isDigest {
				header = headers[w.Num].sum
			}
			found.New = append(found.New, state.Adoption{UID: w.Key, Size: w.Size, Header: header})
		}
	}
	return found
}

// maxHeader bounds how much of a header is read for its date. The topmost Received field
// stands at its start.
const maxHeader = 64 << 10

// headerInfo is what the header of a message says.
type headerInfo struct {
	date time.Time // when the message came in; zero if the header does not say
	sum  state.Sum // tells the message from others should its unique-id change
}

// readHeaders returns what the headers of messages say, by message number. refused is why
// the server gives none.
func (s *session) readHeaders(ctx context.Context, wants []Want) (headers map[int]headerInfo, refused, err error) {
	headers = map[int]headerInfo{}
	if n := len(wants); n > 1000 {
		s.notice("asking for the headers of %d messages; that may take a while", n)
	}
	var entries []pop3proto.Entry
	for _, w := range wants {
		entries = append(entries, w.Entry)
	}
	refused, err = s.eachHeader(ctx, entries, func(num int, r io.Reader) {
		sums := newSums()
		b := newBody(r, sums, 0, s.pipelined)
		raw, _ := io.ReadAll(io.LimitReader(b, maxHeader)) // what came before an error will do
		info := headerInfo{date: envelope.Parse(raw).Date}
		if b.readToEnd() == nil {
			info.sum = sums.header.sum()
		}
		headers[num] = info
	})
	return headers, refused, err
}
