package fetch

import (
	"slices"
	"strconv"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto"
)

// uidsReused reports whether the server may have given the unique-id of one message to
// another: a message that was gone is listed again, and its header does not show that
// it is the same. Some servers use message numbers as unique-ids. After a deletion, all
// later messages have other ones, and the first of them has that of the deleted
// message, or of one that is not remembered.
func (p *planner) uidsReused() (found bool) {
	p.eachUID(func(entries []int32, r int) {
		e := p.listing[entries[0]]
		if r < 0 || e.UID == "" || len(entries) > 1 {
			return
		}
		row := &p.rows[r]
		switch {
		case row.Phase == state.Adopted || p.pol.Open[row.UID]:
		case presumedDeleted(row):
			// A message that cannot be downloaded raises the doubt only once: all rows
			// that it concerns are noted as missing then.
			found = found || p.hasOtherHeader(e, row) || !p.hasHeaderOf(e, row) && row.Tries == 0
		case row.Missing != 0:
			found = found || p.hasOtherHeader(e, row)
		}
	})
	return found
}

// uidsAreNumbers reports whether all unique-ids are the message numbers. If the listing
// is partial, it may then lack the very entry that shows their reuse.
func (p *planner) uidsAreNumbers() bool {
	return !slices.ContainsFunc(p.listing, func(e pop3proto.Entry) bool { return e.UID != strconv.Itoa(e.Num) })
}

// takesUIDOf reports whether e, another message than that of row, has its unique-id
// now. A row with an open promise keeps its unique-id until that is settled.
func (p *planner) takesUIDOf(e pop3proto.Entry, row *state.Row) bool {
	return p.plan.Reused && p.hasOtherHeader(e, row) && !p.pol.Open[row.UID]
}

// isDoubtful reports whether e may be another message than that of row, whose unique-id
// it has: not all servers keep unique-ids unique, as RFC 1939 §7 demands. There must be
// a sum that can settle the doubt: of the content, or of the header if the message was
// adopted.
func (p *planner) isDoubtful(e pop3proto.Entry, row *state.Row) bool {
	sum := row.Content
	if row.Phase == state.Adopted {
		sum = row.Header
	}
	if row.Missing == 0 && !p.plan.Reused || sum.IsZero() || row.Phase == state.Deleted {
		return false
	}
	return !p.hasHeaderOf(e, row)
}

// hasHeaderOf reports whether its header shows that e is the message of row.
func (p *planner) hasHeaderOf(e pop3proto.Entry, row *state.Row) bool {
	sum := p.headers[e.Num]
	return !sum.IsZero() && sum == row.Header
}

// hasOtherHeader reports whether its header shows that e is not the message of row. A
// row without a header shows that only if its message was received completely.
func (p *planner) hasOtherHeader(e pop3proto.Entry, row *state.Row) bool {
	sum, known := p.headers[e.Num]
	complete := row.Phase == state.Landed || row.Phase == state.Deleted
	return known && sum != row.Header && (complete || !row.Header.IsZero())
}

// presumedDeleted reports whether the server was asked to delete the message of a row,
// and confirmed that or has not been found to have the message since.
func presumedDeleted(r *state.Row) bool {
	return r != nil && (r.Phase == state.Deleted || r.Deleted != 0 && r.Missing != 0)
}
