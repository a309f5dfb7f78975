package main

import (
	"context"
	"fmt"
	"io"
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

// runPlan plans one account after the other, since each is a report to read.
func runPlan(ctx context.Context, std stdio, path string, names []string, asJSON bool) error {
	chosen, w, store, done, err := onlooker(ctx, path, names)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := interruptible(ctx, std, w)
	defer stop()

	now := time.Now()
	var classes []fetch.Class
	var plans []planJSON
	for i, a := range chosen {
		if ctx.Err() != nil {
			break
		}
		sight, err := w.account(a).Look(ctx, fetch.Options{State: store}, nil)
		classes = append(classes, fetch.Classify(err))
		if asJSON {
			plans = append(plans, newPlanJSON(a, sight, err, now))
			continue
		}
		if i > 0 {
			fmt.Fprintln(std.out)
		}
		if err != nil {
			failedLook(stdio{out: std.out, err: std.out}, a.Name, err)
			continue
		}
		writePlan(std.out, a, w.places(a), sight, now)
	}
	if asJSON {
		if err := writeJSON(std.out, map[string]any{"accounts": plans}); err != nil {
			return err
		}
	}
	return worst(classes...)
}

// writePlan writes what becomes of each message, and what that comes to. The
// reasons are the point of it and are not cut.
func writePlan(out io.Writer, a config.Account, target string, sight fetch.Sight, now time.Time) {
	fmt.Fprintf(out, "%s: %s\n", a.Name, intended(sight.Outlook, target))
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
