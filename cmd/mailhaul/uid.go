package main

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// noUID begins the name, for a person, of a message without a unique-id: the
// digits of its digest follow.
const noUID = "no-uid:"

// shownUID returns what a person calls the message of a key by, on the command
// line as well.
func shownUID(key string) string {
	digest, copies, nameless := state.Nameless(key)
	if !nameless {
		return strconv.Quote(key)
	}
	return noUID + hex.EncodeToString(digest[:]) + clean(copies)
}

// mostUID is how much of a unique-id a table with other columns shows: enough to
// find the message by.
const mostUID = 24

// keyOf returns the key of a message, "" if it has none yet.
func keyOf(p fetch.Prospect) string {
	if p.Row != nil {
		return p.Row.UID
	}
	return p.UID
}

// called returns the name of a message for a table, "-" if it has none yet.
func called(p fetch.Prospect) string {
	key := keyOf(p)
	if key == "" {
		return "-"
	}
	if strconv.Quote(key) == `"`+key+`"` {
		return key
	}
	return shownUID(key)
}

// findMessage returns the row of the one message of an account that arg names:
// by its unique-id, as it is or as mailhaul shows it, or by a beginning of it
// that no other has. found is false if nothing is remembered of such a message.
func findMessage(ctx context.Context, store *state.Store, account, arg string) (row state.Row, found bool, err error) {
	const most = 10
	arg = strings.TrimSuffix(arg, "…") // as a table cuts it
	ranges := [][2]string{{arg, arg + "\x00"}, {arg, after(arg)}}
	if unquoted, err := strconv.Unquote(arg); err == nil {
		ranges = append(ranges, [2]string{unquoted, unquoted + "\x00"})
	}
	if digest, ok := strings.CutPrefix(arg, noUID); ok {
		ranges = append(ranges, digests(digest)...)
	}
	if arg == "" {
		return row, false, usagef("", "a unique-id is not empty; mailhaul shows what to write for a message without")
	}
	for _, r := range ranges {
		rows, err := store.RowsBetween(ctx, account, r[0], r[1], most+1)
		switch {
		case err != nil:
			return row, false, err
		case len(rows) == 1:
			return rows[0], true, nil
		case len(rows) > 1:
			var names []string
			for _, r := range rows[:min(len(rows), most)] {
				names = append(names, shownUID(r.UID))
			}
			if len(rows) > most {
				names = append(names, "…")
			}
			return row, false, usagef("it is one of "+strings.Join(names, ", "), "%s: %q begins the unique-ids of several messages", account, arg)
		}
	}
	return row, false, nil
}

// after returns the first text beyond all that begin with prefix, "" if there
// is none.
func after(prefix string) string {
	for last := len(prefix) - 1; last >= 0; last-- {
		if prefix[last] < 0xff {
			return prefix[:last] + string([]byte{prefix[last] + 1})
		}
	}
	return ""
}

// digests returns the range of the keys whose digest begins with hexadecimal
// digits; a whole one is that of one key, with as many copies.
func digests(digits string) [][2]string {
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
	return [][2]string{{from, after(state.KeyOf(state.Sum(high), 0))}}
}
