package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func statusCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "say how the last polls went, and which messages are refused",
		ArgsUsage: "[ACCOUNT…]",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "json", Usage: "write JSON for other programs to read", DisableDefaultText: true},
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runStatus(c.Context, std, c.String("config"), c.Args().Slice(), c.Bool("json"))
		},
	}
}

// runStatus reads the state alone: it connects to nothing.
func runStatus(ctx context.Context, std stdio, path string, names []string, asJSON bool) error {
	cfg, err := loadConfig(path)
	if err != nil {
		return err
	}
	chosen, err := choose(cfg, names)
	if err != nil {
		return err
	}
	store, done, err := readState(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	now := time.Now()
	var all []state.Status
	for _, a := range chosen {
		st, err := store.Status(ctx, a.Name, due(a.Keep, now))
		if err != nil {
			return err
		}
		all = append(all, st)
	}
	grants := oauth.NewStore(cfg.State)
	if asJSON {
		return writeStatusJSON(std.out, all, chosen, grants)
	}
	writeStatus(std.out, all, now)
	to := granteesOf(cfg)
	if len(names) > 0 {
		to = slices.DeleteFunc(to, func(g grantee) bool { return g.protocol != oauth.POP || !slices.Contains(names, g.name) })
	}
	writeGrants(std.out, to, grants, now)
	if len(names) > 0 {
		return nil
	}
	known, err := store.Accounts(ctx)
	if err == nil {
		strangers(std.out, cfg, known)
	}
	return err
}

// due returns when what landed by then is to be deleted by now, in Unix
// seconds.
func due(k config.Keep, now time.Time) int64 {
	if k.Forever {
		return 0
	}
	return now.Add(-k.For).Unix()
}

// resultWords are the results of polls in a word for the table.
var resultWords = map[string]string{
	fetch.ClassFine.String():     "ok",
	fetch.ClassRefused.String():  "refused",
	fetch.ClassRetry.String():    "failed",
	fetch.ClassOperator.String(): "FAILED",
	fetch.ClassMachine.String():  "FAILED",
}

// writeStatus writes a table of at most 80 columns, and below it what went
// wrong in full.
func writeStatus(out io.Writer, all []state.Status, now time.Time) {
	width := len("ACCOUNT")
	for _, st := range all {
		width = max(width, len([]rune(st.Account)))
	}
	const most = 23 // 80 columns less the others
	width = min(width, most)
	row := fmt.Sprintf("%%-%d.%ds  %%-14s %%-8s %%8s %%6s %%7s %%7s\n", width, width)
	fmt.Fprintf(out, row, "ACCOUNT", "LAST POLL", "RESULT", "FETCHED", "KEPT", "WAITING", "REFUSED")
	for _, st := range all {
		last, result := "never", "-"
		if st.Last != nil {
			last, result = ago(st.Last.Ended, now), resultWords[st.Last.Result]
		}
		fmt.Fprintf(out, row, st.Account, last, result,
			fmt.Sprint(st.Fetched), fmt.Sprint(st.Kept), fmt.Sprint(st.Waiting), fmt.Sprint(len(st.Refused)))
	}
	for _, st := range all {
		trouble(out, st, now)
	}
}

// trouble writes what a person may want to look into.
func trouble(out io.Writer, st state.Status, now time.Time) {
	if last := st.Last; last != nil && last.Error != "" {
		fmt.Fprintf(out, "\n%s: FAILED %s: %s\n", st.Account, ago(last.Ended, now), clean(last.Error))
		if last.Hint != "" {
			fmt.Fprintf(out, "  hint: %s\n", last.Hint)
		}
		fmt.Fprintf(out, "  last success: %s\n", ago(st.LastSuccess, now))
	}
	if st.Open > 0 {
		fmt.Fprintf(out, "\n%s: %s in delivery when a fetch was cut off: the next one settles it\n", st.Account, count(st.Open, "message"))
	}
	for i, row := range st.Refused {
		if i == 0 {
			fmt.Fprintf(out, "\n%s: %s on the server that could not be delivered\n", st.Account, count(len(st.Refused), "message"))
		}
		fmt.Fprintf(out, "  %s (%s): %s\n", uniqueID(row.UID), size(row.Size), clean(row.Reason))
		if next := time.Unix(row.NextTry, 0); row.NextTry > 0 {
			when := "next try in " + span(next.Sub(now))
			if !next.After(now) {
				when = "tried again by the next fetch"
			}
			fmt.Fprintf(out, "    tried %s, %s\n", count(row.Tries, "time"), when)
		}
	}
}

// withoutUID tells whether a key of the state stands for a message without a
// unique-id: it is a NUL and a digest then.
func withoutUID(key string) bool { return strings.HasPrefix(key, "\x00") }

// uniqueID returns a message's unique-id for a person.
func uniqueID(key string) string {
	if withoutUID(key) {
		return "a message without a unique-id, " + shownUID(key)
	}
	return fmt.Sprintf("%q", key)
}
