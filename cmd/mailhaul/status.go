package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func statusCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "tell how the last polls went, and which messages are refused",
		ArgsUsage: "[ACCOUNT…]",
		Description: "It reads what is remembered, and connects to nothing. The exit code is 0 however the\n" +
			"accounts are doing; for scripts there is --json.",
		Flags: []cli.Flag{
			configFlag(),
			toggle("verbose", "also tell of earlier polls and of the last 30 days", "v"),
			jsonFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runStatus(c.Context, std, c.String("config"), c.Args().Slice(), c.Bool("verbose"), c.Bool("json"))
		},
	}
}

// runStatus reads the state alone: it connects to nothing.
func runStatus(ctx context.Context, std stdio, path string, names []string, verbose, asJSON bool) error {
	cfg, store, done, err := lookUp(ctx, path)
	if err != nil {
		return err
	}
	defer done()
	chosen, err := choose(cfg, names)
	if err != nil {
		return err
	}
	now := time.Now()
	var all []state.Status
	histories := make([]history, len(chosen))
	for i, a := range chosen {
		st, err := store.Status(ctx, a.Name, a.Keep.Due(now))
		if err != nil {
			return err
		}
		all = append(all, st)
		if !verbose {
			continue
		}
		h := &histories[i]
		if h.polls, err = store.Polls(ctx, a.Name, historyPolls); err != nil {
			return err
		}
		if h.days, err = store.Days(ctx, a.Name, state.DayOf(now)-historyDays+1); err != nil {
			return err
		}
	}
	grants := oauth.NewStore(cfg.State)
	if asJSON {
		return writeStatusJSON(std.out, all, histories, chosen, grants)
	}
	writeStatus(std.out, all, now)
	for i, st := range all {
		writeHistory(std.out, st.Account, histories[i], now)
	}
	to := granteesOf(cfg)
	if len(names) > 0 {
		to = slices.DeleteFunc(to, func(g grantee) bool { return g.protocol != oauth.POP || !slices.Contains(names, g.name) })
	}
	writeGrants(std.out, to, grants, now)
	if len(names) == 0 {
		known, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		strangers(std.out, cfg, known)
	}
	sumUp(std.out, all, now)
	return nil
}

// trouble writes what a person may want to look into.
func trouble(out io.Writer, st state.Status, now time.Time) {
	if last := st.Last; last != nil && last.Error != "" {
		fmt.Fprintf(out, "\n%s: FAILED %s: %s\n", st.Account, ago(last.Ended, now), clean(last.Error))
		if last.Hint != "" {
			fmt.Fprintf(out, "  hint: %s\n", clean(last.Hint))
		}
		fmt.Fprintf(out, "  last success: %s\n", ago(st.Schedule.LastSuccess, now))
	}
	if st.Open > 0 {
		fmt.Fprintf(out, "\n%s: %s in delivery: a fetch is under way, or was cut off and the next one settles it\n", st.Account, count(st.Open, "message"))
	}
	for i, row := range st.Refused {
		if i == 0 {
			fmt.Fprintf(out, "\n%s: %s on the server that could not be delivered\n", st.Account, count(len(st.Refused), "message"))
		}
		which := uniqueID(row.UID)
		if compared(row) {
			which += ", perhaps not a new one"
		}
		fmt.Fprintf(out, "  %s (%s): %s\n", which, size(row.Size), clean(row.Reason))
		if next := time.Unix(row.NextTry, 0); row.NextTry > 0 {
			when := "next try in " + span(next.Sub(now))
			if !next.After(now) {
				when = "tried again by the next fetch"
			}
			if row.Tries > 0 { // none since mailhaul state retry
				when = fmt.Sprintf("tried %s%s, %s", count(row.Tries, "time"), since(row, now), when)
			}
			fmt.Fprintf(out, "    %s\n", when)
		}
	}
	if slices.ContainsFunc(st.Refused, func(r state.Row) bool { return r.NextTry > now.Unix() }) {
		fmt.Fprintf(out, "  the next fetch tries them after mailhaul state retry %s\n", st.Account)
	}
}

// compared reports whether a message of the status was to be compared with the one of
// its unique-id that was delivered or adopted.
func compared(row state.Row) bool {
	return row.Phase == state.Landed || row.Phase == state.Deleted || row.Phase == state.Adopted
}

// firstTry is how long a message may take to be refused after it was first seen.
const firstTry = 5 * time.Minute

// since says when a refused message was first tried, if that was noted. After
// mailhaul state retry the tries begin anew, and the first of them is a later one.
func since(row state.Row, now time.Time) string {
	switch {
	case row.Seen == 0:
		return ""
	case row.Tries == 1 && row.NextTry-row.Seen > int64((fetch.FirstPause+firstTry).Seconds()):
		return ", first seen " + ago(row.Seen, now)
	case row.Tries == 1:
		return ", " + ago(row.Seen, now)
	default:
		return ", first " + ago(row.Seen, now)
	}
}

// uniqueID returns a message's unique-id for a person.
func uniqueID(key string) string {
	if _, _, nameless := state.Nameless(key); nameless {
		return "a message without a unique-id, " + shownUID(key)
	}
	return fmt.Sprintf("%q", key)
}
