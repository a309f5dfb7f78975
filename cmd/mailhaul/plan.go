package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

func planCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "say what the next fetch would do with each message, and why",
		ArgsUsage: "[ACCOUNT…]",
		Description: "It logs in and lists, and changes nothing; mailhaul fetch --dry-run tells only the\n" +
			"totals. The exit codes are those of mailhaul fetch, except that messages refused\n" +
			"earlier are no failure here.",
		Flags: []cli.Flag{
			configFlag(),
			jsonFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runPlan(c.Context, std, c.String("config"), c.Args().Slice(), c.Bool("json"))
		},
	}
}

// runPlan plans for as many accounts at once as a fetch polls, and reports on one after
// the other, since each is a report to read.
func runPlan(ctx context.Context, std stdio, path string, names []string, asJSON bool) error {
	cfg, chosen, w, err := wired(path, names)
	if err != nil {
		return err
	}
	defer w.Close()
	store, done, err := readState(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	tune(min(len(chosen), cfg.Parallel))
	if isTerminal(std.in) {
		cfg.AskInTurn()
	}
	ctx, stop := interruptible(ctx, std, w)
	defer stop()

	now := time.Now()
	accounts, turns := w.accounts(chosen), newTurns(std.out, len(chosen))
	classes, plans := make([]fetch.Class, len(chosen)), make([]*planJSON, len(chosen))
	tell := func(i int, sight fetch.Sight, err error) {
		a, out := chosen[i], turn{turns, i}
		defer out.end()
		classes[i] = fetch.Classify(err)
		if asJSON {
			plans[i] = new(newPlanJSON(a, sight, err, now))
			return
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err != nil {
			reportLookFailure(stdio{out: out, err: out}, a.Name, err)
			return
		}
		writePlan(out, a, w.places(a), sight, now)
	}
	fetch.Each(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost, Options: fetch.Options{State: store},
	}, func(i int, o fetch.Options) error {
		sight, err := accounts[i].Look(ctx, o, nil)
		tell(i, sight, err)
		return err
	}, func(i int, err error) {
		if ctx.Err() == nil {
			tell(i, fetch.Sight{}, err)
			return
		}
		defer turn{turns, i}.end()
		classes[i] = fetch.Classify(err)
	})
	if asJSON {
		// Without those whose turn did not come.
		plans = slices.DeleteFunc(plans, func(p *planJSON) bool { return p == nil })
		if err := writeJSON(std.out, map[string]any{"accounts": plans}); err != nil {
			return err
		}
	}
	return worstOutcome(classes...)
}

// writePlan writes what becomes of each message, and what that comes to. The
// reasons are the point of it and are not cut.
func writePlan(out io.Writer, a config.Account, target string, sight fetch.Sight, now time.Time) {
	fmt.Fprintf(out, "%s: %s\n", a.Name, intended(sight.Outlook, target, mayDrop(a)))
	if len(sight.Messages) == 0 {
		return
	}
	colour := map[string]string{"fetch": green, "delete": red}
	rows, colours := make([][]string, len(sight.Messages)), make([]string, len(sight.Messages))
	for i, p := range sight.Messages {
		colours[i] = colour[action(p)]
		rows[i] = []string{strconv.Itoa(p.Num), size(p.Size), action(p), called(p), because(p, a, now)}
	}
	writeTable(out, []column{
		{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "ACTION", colours: colours}, {title: "UNIQUE-ID", most: mostUID}, {title: "WHY"},
	}, rows, nil)
}
