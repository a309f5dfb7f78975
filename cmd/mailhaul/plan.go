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

// runPlan looks at as many accounts at once as a fetch would poll, and reports on them
// in the order of the configuration.
func runPlan(ctx context.Context, std stdio, path string, names []string, asJSON bool) error {
	cfg, chosen, w, err := loadAndWire(path, names)
	if err != nil {
		return err
	}
	defer w.Close()
	store, done, err := openStateReadOnly(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	tuneRuntime(min(len(chosen), cfg.Parallel))
	if isTerminal(std.in) {
		cfg.SerializeSecretCommands()
	}
	ctx, stop := cancelOnSignal(ctx, std, w)
	defer stop()

	now := time.Now()
	accounts, reports := w.accounts(chosen), newOrderedReports(std.out, len(chosen))
	classes, plans := make([]fetch.Class, len(chosen)), make([]*planJSON, len(chosen))
	report := func(i int, sight fetch.Sight, err error) {
		a, out := chosen[i], orderedReport{reports, i}
		defer out.finish()
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
		writePlan(out, a, w.describeSinks(a), sight, now)
	}
	fetch.Each(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost, Options: fetch.Options{State: store},
	}, func(i int, o fetch.Options) error {
		sight, err := accounts[i].Look(ctx, o, nil)
		report(i, sight, err)
		return err
	}, func(i int, err error) { // the account was not looked at
		if ctx.Err() == nil {
			report(i, fetch.Sight{}, err)
			return
		}
		defer orderedReport{reports, i}.finish()
		classes[i] = fetch.Classify(err)
	})
	if asJSON {
		// Accounts that a signal left out have no plan.
		plans = slices.DeleteFunc(plans, func(p *planJSON) bool { return p == nil })
		if err := writeJSON(std.out, map[string]any{"accounts": plans}); err != nil {
			return err
		}
	}
	return worstOutcome(classes...)
}

// writePlan writes the totals of an account, and what becomes of each message. The
// reasons are never cut.
func writePlan(out io.Writer, a config.Account, target string, sight fetch.Sight, now time.Time) {
	fmt.Fprintf(out, "%s: %s\n", a.Name, describeOutlook(sight.Outlook, target, mayDrop(a)))
	if len(sight.Messages) == 0 {
		return
	}
	colour := map[string]string{"fetch": green, "delete": red}
	rows, colours := make([][]string, len(sight.Messages)), make([]string, len(sight.Messages))
	for i, p := range sight.Messages {
		colours[i] = colour[fateAction(p)]
		rows[i] = []string{strconv.Itoa(p.Num), size(p.Size), fateAction(p), prospectName(p), fateReason(p, a, now)}
	}
	writeTable(out, []column{
		{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "ACTION", colours: colours}, {title: "UNIQUE-ID", maxWidth: maxUIDWidth}, {title: "WHY"},
	}, rows, nil)
}
