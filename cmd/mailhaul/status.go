package main

import (
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
		Action:       func(c *cli.Context) error { return runStatus(c, std) },
	}
}

// runStatus writes what the state database knows of accounts. It connects to nothing.
func runStatus(c *cli.Context, std stdio) error {
	ctx, names := c.Context, c.Args().Slice()
	cfg, store, done, err := loadConfigAndStateReadOnly(ctx, c.String("config"))
	if err != nil {
		return err
	}
	defer done()
	chosen, err := chooseAccounts(cfg, names)
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
		if c.Bool("verbose") {
			if histories[i], err = readHistory(ctx, store, a.Name, now); err != nil {
				return err
			}
		}
	}
	grants := oauth.NewStore(cfg.State)
	if c.Bool("json") {
		return writeStatusJSON(std.out, all, histories, chosen, grants)
	}
	writeStatus(std.out, all, now)
	for i, st := range all {
		writeHistory(std.out, st.Account, histories[i], now)
	}
	logins := oauthLogins(cfg)
	if len(names) > 0 { // which are accounts
		logins = slices.DeleteFunc(logins, func(l serverLogin) bool { return l.protocol != oauth.POP || !slices.Contains(names, l.name) })
	}
	writeGrants(std.out, logins, grants, now)
	if len(names) == 0 {
		known, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		writeUnconfigured(std.out, cfg, known)
	}
	writeStatusSummary(std.out, all, now)
	return nil
}

// writeTrouble writes what a person may want to look into: a failed poll, messages in
// delivery, and refused messages.
func writeTrouble(out io.Writer, st state.Status, now time.Time) {
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
	if len(st.Refused) > 0 {
		fmt.Fprintf(out, "\n%s: %s on the server that could not be delivered\n", st.Account, count(len(st.Refused), "message"))
	}
	for _, row := range st.Refused {
		writeRefused(out, row, now)
	}
	if slices.ContainsFunc(st.Refused, func(r state.Row) bool { return r.NextTry > now.Unix() }) {
		fmt.Fprintf(out, "  the next fetch tries them after mailhaul state retry %s\n", st.Account)
	}
}

// writeRefused writes a refused message, why it was refused, and when it is tried again.
func writeRefused(out io.Writer, row state.Row, now time.Time) {
	which := describeUID(row.UID)
	if wasToBeCompared(row) {
		which += ", perhaps not a new one"
	}
	fmt.Fprintf(out, "  %s (%s): %s\n", which, size(row.Size), clean(row.Reason))
	if row.NextTry == 0 {
		return
	}
	next := time.Unix(row.NextTry, 0)
	when := "next try in " + span(next.Sub(now))
	if !next.After(now) {
		when = "tried again by the next fetch"
	}
	if row.Tries > 0 { // 0 after mailhaul state retry
		when = fmt.Sprintf("tried %s%s, %s", count(row.Tries, "time"), firstTryText(row, now), when)
	}
	fmt.Fprintf(out, "    %s\n", when)
}

// wasToBeCompared reports whether a refused message was to be compared with the one that
// was delivered or adopted under its unique-id.
func wasToBeCompared(row state.Row) bool {
	return row.Phase == state.Landed || row.Phase == state.Deleted || row.Phase == state.Adopted
}

// firstTryLimit is how long after it was first seen a message may be refused for the
// first time.
const firstTryLimit = 5 * time.Minute

// firstTryText says when a refused message was first tried, if that is known. After
// mailhaul state retry, the tries are counted anew, and the first of them is later than
// row.Seen; then the text says when the message was first seen.
func firstTryText(row state.Row, now time.Time) string {
	switch {
	case row.Seen == 0:
		return ""
	case row.Tries == 1 && row.NextTry-row.Seen > int64((fetch.FirstPause+firstTryLimit).Seconds()):
		return ", first seen " + ago(row.Seen, now)
	case row.Tries == 1:
		return ", " + ago(row.Seen, now)
	default:
		return ", first " + ago(row.Seen, now)
	}
}

// describeUID returns the unique-id of a message, or says that it has none.
func describeUID(key string) string {
	if state.IsDigestKey(key) {
		return "a message without a unique-id, " + displayUID(key)
	}
	return fmt.Sprintf("%q", key)
}
