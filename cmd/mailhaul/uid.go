package main

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// noUIDPrefix begins the name of a message without a unique-id. The digest of its header
// follows, in hexadecimal.
const noUIDPrefix = "no-uid:"

// displayUID returns the name of the message with a key of the state database: the name
// that output shows, and that the command line accepts.
func displayUID(key string) string {
	sum, copies, isDigest := state.SplitDigestKey(key)
	if !isDigest {
		return strconv.Quote(key)
	}
	return noUIDPrefix + hex.EncodeToString(sum[:]) + clean(copies)
}

// maxUIDWidth is how much of a unique-id tables show. findMessage accepts that much.
const maxUIDWidth = 24

// prospectKey returns the key of a message in the state database, "" if it has none yet.
func prospectKey(p fetch.Prospect) string {
	if p.Row != nil {
		return p.Row.UID
	}
	return p.UID
}

// prospectName returns the name of a message for a table, "-" if it has none yet.
func prospectName(p fetch.Prospect) string {
	key := prospectKey(p)
	if key == "" {
		return "-"
	}
	if strconv.Quote(key) == `"`+key+`"` {
		return key
	}
	return displayUID(key)
}

// findMessage returns the row of the message of an account that arg names: by its
// unique-id, as it is or as displayUID returns it, or by a prefix of it that is
// unambiguous. found is false if no row matches.
func findMessage(ctx context.Context, store *state.Store, account, arg string) (row state.Row, found bool, err error) {
	const maxListed = 10
	arg = strings.TrimSuffix(arg, "…") // as a table cuts it
	ranges := [][2]string{{arg, arg + "\x00"}, {arg, prefixEnd(arg)}}
	if unquoted, err := strconv.Unquote(arg); err == nil {
		ranges = append(ranges, [2]string{unquoted, unquoted + "\x00"})
	}
	if digits, ok := strings.CutPrefix(arg, noUIDPrefix); ok {
		ranges = append(ranges, digestRanges(digits)...)
	}
	if arg == "" {
		return row, false, usagef("", "a unique-id is not empty; mailhaul shows what to write for a message without")
	}
	for _, r := range ranges {
		rows, err := store.RowsBetween(ctx, account, r[0], r[1], maxListed+1)
		switch {
		case err != nil:
			return row, false, err
		case len(rows) == 1:
			return rows[0], true, nil
		case len(rows) > 1:
			var names []string
			for _, r := range rows[:min(len(rows), maxListed)] {
				names = append(names, displayUID(r.UID))
			}
			if len(rows) > maxListed {
				names = append(names, "…")
			}
			return row, false, usagef("it is one of "+strings.Join(names, ", "), "%s: %q begins the unique-ids of several messages", account, arg)
		}
	}
	return row, false, nil
}

// prefixEnd returns the least string that sorts after all strings with a prefix, "" if
// there is none.
func prefixEnd(prefix string) string {
	for last := len(prefix) - 1; last >= 0; last-- {
		if prefix[last] < 0xff {
			return prefix[:last] + string([]byte{prefix[last] + 1})
		}
	}
	return ""
}

// digestRanges returns the range of the keys whose digest begins with hexadecimal
// digits. The digits of a whole digest, which "+" and a number of copies may follow,
// name one key. The result is nil if digits is malformed.
func digestRanges(digits string) [][2]string {
	bare, _, _ := strings.Cut(digits, "+")
	copies, missing := digits[len(bare):], 2*len(state.Sum{})-len(bare)
	if missing < 0 || missing > 0 && copies != "" {
		return nil
	}
	low, errLow := hex.DecodeString(bare + strings.Repeat("0", missing))
	high, errHigh := hex.DecodeString(bare + strings.Repeat("f", missing))
	if errLow != nil || errHigh != nil {
		return nil
	}
	from := state.KeyOf(state.Sum(low), 0) + copies
	if missing == 0 {
		return [][2]string{{from, from + "\x00"}}
	}
	return [][2]string{{from, prefixEnd(state.KeyOf(state.Sum(high), 0))}}
}
