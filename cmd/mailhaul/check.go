package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func checkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "try the configuration, every server and every sink, without changing anything",
		ArgsUsage: "[ACCOUNT…]",
		Description: "The exit codes are those of mailhaul fetch, except that messages refused earlier are\n" +
			"no failure here.",
		Flags:        []cli.Flag{configFlag(), traceFlag(), toggle("quiet", "report only on accounts that are not well", "q")},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runCheck(c, std) },
	}
}

// checkRun is a run of mailhaul check. It checks as many accounts at once as a fetch
// polls, and writes their reports one after the other.
type checkRun struct {
	checklist
	quiet  bool
	cfg    *config.Config
	wiring *wiring
	probes map[string]sinkProbe // of the sinks, by name
	trace  *trace
	checks []accountCheck
}

// accountCheck is the check of one account.
type accountCheck struct {
	config  config.Account
	account *fetch.Account
	out     orderedReport
	held    bytes.Buffer // with --quiet, the report, until it is known whether to write it
	begun   bool
	class   fetch.Class
}

func runCheck(c *cli.Context, std stdio) error {
	cfg, chosen, w, err := loadAndWire(c.String("config"), c.Args().Slice())
	if err != nil {
		return err
	}
	defer w.Close()
	tuneRuntime(min(len(chosen), cfg.Parallel))
	if isTerminal(std.in) {
		cfg.SerializeSecretCommands()
	}
	traced, err := openTrace(c.String("trace"))
	if err != nil {
		return err
	}
	defer traced.close(std)
	store, done, err := openStateReadOnly(c.Context, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := cancelOnSignal(c.Context, std, w)
	defer stop()

	accounts, reports := w.accounts(chosen), newOrderedReports(std.out, len(chosen))
	traced.traceAccounts(accounts...)
	r := &checkRun{
		checklist: newChecklist(std.out), quiet: c.Bool("quiet"),
		cfg: cfg, wiring: w, probes: sinkProbes(ctx, cfg, w), trace: traced,
	}
	for i, a := range chosen {
		r.checks = append(r.checks, accountCheck{config: a, account: accounts[i], out: orderedReport{reports, i}})
	}
	if !r.quiet {
		fmt.Fprintf(std.out, "%s: %s, %s\n", cfg.Path, count(len(cfg.Accounts), "account"), count(len(cfg.Sinks), "sink"))
	}
	stateErr := probeState(cfg.State)
	if stateErr != nil {
		r.fail("state: "+stateErr.Error(), fetch.Hint(stateErr))
	}
	fetch.Each(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost,
		Options: fetch.Options{State: store, Observer: traced.observe},
	}, func(i int, o fetch.Options) error {
		return r.checkAccount(ctx, &r.checks[i], o)
	}, func(i int, err error) {
		r.leaveOut(ctx, &r.checks[i], err)
	})
	return worstOutcome(r.summarize(stateErr))
}

// checkAccount checks the server, the lease, the filter and the sinks of an account.
func (r *checkRun) checkAccount(ctx context.Context, c *accountCheck, o fetch.Options) error {
	defer c.end()
	l := r.begin(c)
	l.reportGrant(accountLogin(c.config), r.wiring.grants, time.Now())
	o.Observer(fetch.Started{Account: c.config.Name})
	report, err := c.account.Check(ctx, o)
	r.trace.writeEnd(c.config.Name, err)
	l.reportServer(c.account, report, err, time.Now())
	c.class = fetch.Classify(err)
	if ctx.Err() == nil {
		leaseErr := state.CheckLease(r.cfg.State, c.config.Name)
		if leaseErr != nil {
			l.fail(leaseErr.Error(), fetch.Hint(leaseErr))
		}
		c.class = max(c.class, fetch.Classify(leaseErr), l.reportSinks(ctx, r.cfg, r.wiring, c.config, r.probes))
	}
	return err
}

// leaveOut reports why an account is not checked, unless that is because of a signal.
func (r *checkRun) leaveOut(ctx context.Context, c *accountCheck, err error) {
	defer c.end()
	c.class = fetch.Classify(err)
	if ctx.Err() == nil {
		l := r.begin(c)
		l.fail(err.Error(), fetch.Hint(err))
	}
}

// begin begins the report on an account with its name.
func (r *checkRun) begin(c *accountCheck) checklist {
	c.begun = true
	if r.quiet {
		fmt.Fprintf(&c.held, "%s\n", c.config.Name)
		return checklist{&c.held, r.paint}
	}
	fmt.Fprintf(c.out, "\n%s\n", c.config.Name)
	return checklist{c.out, r.paint}
}

// end ends the report, and writes what --quiet held back if the account is not well.
func (c *accountCheck) end() {
	if c.class != fetch.ClassFine {
		c.held.WriteTo(c.out)
	}
	c.out.finish()
}

// summarize writes which accounts are not well, and returns the worst class.
func (r *checkRun) summarize(stateErr error) fetch.Class {
	class := fetch.Classify(stateErr)
	var unwell []string
	if stateErr != nil {
		unwell = append(unwell, "the state folder")
	}
	checked := 0
	for i := range r.checks {
		c := &r.checks[i]
		class = max(class, c.class)
		if !c.begun {
			continue
		}
		checked++
		if c.class != fetch.ClassFine {
			unwell = append(unwell, c.config.Name)
		}
	}
	result := "all well"
	if len(unwell) > 0 {
		result = fmt.Sprintf("%d not well: %s", len(unwell), listNames(unwell))
	}
	if len(r.checks) > 1 && (!r.quiet || len(unwell) > 0) {
		fmt.Fprintf(r.out, "\n%s checked, %s\n", count(checked, "account"), result)
	}
	return class
}
