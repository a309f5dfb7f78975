package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
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
		Action: func(c *cli.Context) error {
			return runCheck(c.Context, std, c.String("config"), c.String("trace"), c.Args().Slice(), c.Bool("quiet"))
		},
	}
}

// runCheck checks as many accounts at once as a fetch polls, and reports on one after
// the other, since each is a report to read.
func runCheck(ctx context.Context, std stdio, path, trace string, names []string, quiet bool) error {
	cfg, chosen, w, err := wired(path, names)
	if err != nil {
		return err
	}
	defer w.Close()
	tune(min(len(chosen), cfg.Parallel))
	if isTerminal(std.in) {
		cfg.AskInTurn()
	}
	traced, err := openTrace(trace)
	if err != nil {
		return err
	}
	defer traced.close(std)
	store, done, err := readState(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer done()
	ctx, stop := interruptible(ctx, std, w)
	defer stop()

	if !quiet {
		fmt.Fprintf(std.out, "%s: %s, %s\n", cfg.Path, count(len(cfg.Accounts), "account"), count(len(cfg.Sinks), "sink"))
	}
	l := checklist{out: std.out, paint: painter(isTerminal(std.out))}
	checked, unwell := 0, []string{}
	err = probeState(cfg.State)
	if err != nil {
		l.fail("state: "+err.Error(), fetch.Hint(err))
		unwell = append(unwell, "the state folder")
	}
	stateClass := fetch.Classify(err)
	accounts, turns, probes := w.accounts(chosen), newTurns(std.out, len(chosen)), probesOf(ctx, cfg, w)
	traced.follow(accounts...)
	classes, begun := make([]fetch.Class, len(chosen)), make([]bool, len(chosen))
	held := make([]bytes.Buffer, len(chosen)) // where it must be seen first how the account is
	of := func(i int) checklist {
		begun[i] = true
		l, heading := l, "\n%s\n"
		if l.out = (turn{turns, i}); quiet {
			l.out, heading = &held[i], "%s\n"
		}
		fmt.Fprintf(l.out, heading, chosen[i].Name)
		return l
	}
	end := func(i int) {
		out := turn{turns, i}
		if classes[i] != fetch.ClassFine {
			held[i].WriteTo(out)
		}
		out.end()
	}
	fetch.Each(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost,
		Options: fetch.Options{State: store, Observer: traced.observe},
	}, func(i int, o fetch.Options) error {
		defer end(i)
		a, l := chosen[i], of(i)
		l.grant(ofAccount(a), w.grants, time.Now())
		o.Observer(fetch.Started{Account: a.Name})
		report, err := accounts[i].Check(ctx, o)
		traced.ended(a.Name, err)
		l.reportServer(accounts[i], report, err, time.Now())
		classes[i] = fetch.Classify(err)
		if ctx.Err() == nil {
			classes[i] = max(classes[i], l.checkLease(cfg.State, a.Name), l.checkSinks(ctx, cfg, w, a, probes))
		}
		return err
	}, func(i int, err error) {
		defer end(i)
		if classes[i] = fetch.Classify(err); ctx.Err() == nil {
			l := of(i)
			l.fail(err.Error(), fetch.Hint(err))
		}
	})
	for i, a := range chosen {
		if begun[i] {
			checked++
			if classes[i] != fetch.ClassFine {
				unwell = append(unwell, a.Name)
			}
		}
	}
	if len(chosen) > 1 && (!quiet || len(unwell) > 0) {
		sum := "all well"
		if len(unwell) > 0 {
			sum = fmt.Sprintf("%d not well: %s", len(unwell), someOf(unwell))
		}
		fmt.Fprintf(std.out, "\n%s checked, %s\n", count(checked, "account"), sum)
	}
	return worstOutcome(append(classes, stateClass)...)
}

// checkLease reports on what keeps an account from being polled.
func (l *checklist) checkLease(dir, account string) fetch.Class {
	err := state.CheckLease(dir, account)
	if err != nil {
		l.fail(err.Error(), fetch.Hint(err))
	}
	return fetch.Classify(err)
}

// checkSinks reports on the filter and the sinks of an account, which are probed by probes.
func (l *checklist) checkSinks(ctx context.Context, cfg *config.Config, w *wiring, a config.Account, probes map[string]probe) fetch.Class {
	class := fetch.ClassFine
	report := func(what, text string, err error) {
		if err == nil {
			l.pass("%s: %s", what, text)
			return
		}
		stopped := ctx.Err() != nil
		if stopped {
			err = fetch.ErrCutShort
		}
		found, hint := fetch.ClassOperator, ""
		if _, ok := errors.AsType[*deliver.Error](err); ok || stopped {
			found, hint = fetch.Classify(err), fetch.Hint(err)
		}
		class = max(class, found)
		l.fail(fmt.Sprintf("%s: %v", what, err), hint)
		l.showRejectedCertificate(err, time.Now())
	}
	if f := w.account(a).Filter; f != nil {
		report("filter", tilde(strings.Join(a.Filter.Argv, " ")), f.Check())
	}
	names := a.Sinks()
	if a.Quarantine != "" {
		names = append(names, a.Quarantine)
	}
	for _, name := range names {
		l.grant(ofSink(*cfg.Sink(name)), w.grants, time.Now())
		text, err := probes[name]()
		report("sink "+name, text, err)
	}
	return class
}
