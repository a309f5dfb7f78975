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
		Flags:        []cli.Flag{configFlag(), jsonFlag()},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runPlan(c, std) },
	}
}

// planRun is a run of mailhaul plan. It looks at as many accounts at once as a fetch
// polls, and reports on them in the order of the configuration. Element i of each slice
// is about the same account.
type planRun struct {
	wiring  *wiring
	chosen  []config.Account
	reports *orderedReports
	asJSON  bool
	now     time.Time
	classes []fetch.Class
	plans   []*planJSON // with asJSON; nil for an account that a signal left out
}

func runPlan(c *cli.Context, std stdio) error {
	cfg, chosen, w, err := loadAndWire(c.String("config"), c.Args().Slice())
	if err != nil {
		return err
	}
	defer w.Close()
	store, done, err := openStateReadOnly(c.Context, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	tuneRuntime(min(len(chosen), cfg.Parallel))
	if isTerminal(std.in) {
		cfg.SerializeSecretCommands()
	}
	ctx, stop := cancelOnSignal(c.Context, std, w)
	defer stop()

	r := &planRun{
		wiring: w, chosen: chosen, reports: newOrderedReports(std.out, len(chosen)), asJSON: c.Bool("json"), now: time.Now(),
		classes: make([]fetch.Class, len(chosen)), plans: make([]*planJSON, len(chosen)),
	}
	accounts := w.accounts(chosen)
	fetch.Each(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost, Options: fetch.Options{State: store},
	}, func(i int, o fetch.Options) error {
		sight, err := accounts[i].Look(ctx, o, nil)
		r.report(i, sight, err)
		return err
	}, func(i int, err error) {
		r.leaveOut(ctx, i, err)
	})
	if r.asJSON {
		plans := slices.DeleteFunc(r.plans, func(p *planJSON) bool { return p == nil })
		if err := writeJSON(std.out, map[string]any{"accounts": plans}); err != nil {
			return err
		}
	}
	return worstOutcome(r.classes...)
}

// report reports what was seen of account i, or err, for which it could not be looked at.
func (r *planRun) report(i int, sight fetch.Sight, err error) {
	a, out := r.chosen[i], orderedReport{r.reports, i}
	defer out.finish()
	r.classes[i] = fetch.Classify(err)
	if r.asJSON {
		r.plans[i] = new(newPlanJSON(a, sight, err, r.now))
		return
	}
	if i > 0 {
		fmt.Fprintln(out)
	}
	if err != nil {
		writeLookFailure(out, a.Name, err)
		return
	}
	writePlan(out, a, r.wiring.describeSinks(a), sight, r.now)
}

// leaveOut reports why account i was not looked at, unless that is because of a signal.
func (r *planRun) leaveOut(ctx context.Context, i int, err error) {
	if ctx.Err() == nil {
		r.report(i, fetch.Sight{}, err)
		return
	}
	r.classes[i] = fetch.Classify(err)
	orderedReport{r.reports, i}.finish()
}

// writePlan writes the totals of an account, and what becomes of each message. The
// reasons are never cut.
func writePlan(out io.Writer, a config.Account, target string, sight fetch.Sight, now time.Time) {
	fmt.Fprintf(out, "%s: %s\n", a.Name, describeOutlook(sight.Outlook, target, mayDrop(a)))
	if len(sight.Messages) == 0 {
		return
	}
	colourByAction := map[string]string{"fetch": green, "delete": red}
	var rows [][]string
	var colours []string
	for _, p := range sight.Messages {
		action := fateAction(p)
		rows = append(rows, []string{strconv.Itoa(p.Num), size(p.Size), action, prospectName(p), fateReason(p, a, now)})
		colours = append(colours, colourByAction[action])
	}
	writeTable(out, []column{
		{title: "NO", right: true}, {title: "SIZE", right: true}, {title: "ACTION", colours: colours},
		{title: "UNIQUE-ID", maxWidth: maxUIDWidth}, {title: "WHY"},
	}, rows, nil)
}
