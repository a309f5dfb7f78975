package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
)

func checkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "try the configuration, every server and every sink, without changing anything",
		ArgsUsage: "[ACCOUNT…]",
		Description: "The exit codes are those of mailhaul fetch, except that messages refused earlier are\n" +
			"no failure here.",
		Flags:        []cli.Flag{configFlag(), traceFlag()},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runCheck(c.Context, std, c.String("config"), c.String("trace"), c.Args().Slice())
		},
	}
}

// runCheck checks one account after the other, since each is a report to read.
func runCheck(ctx context.Context, std stdio, path, trace string, names []string) error {
	cfg, chosen, w, err := wired(path, names)
	if err != nil {
		return err
	}
	defer w.Close()
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

	fmt.Fprintf(std.out, "%s: %s, %s\n", cfg.Path, count(len(cfg.Accounts), "account"), count(len(cfg.Sinks), "sink"))
	l := &checklist{out: std.out, paint: painter(isTerminal(std.out))}
	checked, unwell := 0, []string{}
	err = probeState(cfg.State)
	if err != nil {
		l.bad("state: "+err.Error(), fetch.Hint(err))
		unwell = append(unwell, "the state folder")
	}
	classes := []fetch.Class{fetch.Classify(err)}
	for _, a := range chosen {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(std.out, "\n%s\n", a.Name)
		account := w.account(a)
		l.grant(ofAccount(a), w.grants, time.Now())
		traced.follow(account)
		traced.observe(fetch.Started{Account: a.Name})
		report, err := account.Check(ctx, fetch.Options{State: store, Observer: traced.observe})
		traced.ended(a.Name, err)
		l.server(account, report, err, time.Now())
		class := fetch.Classify(err)
		if ctx.Err() == nil {
			class = max(class, l.sinks(ctx, cfg, w, a))
		}
		classes = append(classes, class)
		checked++
		if class != fetch.ClassFine {
			unwell = append(unwell, a.Name)
		}
	}
	if len(chosen) > 1 {
		sum := "all well"
		if len(unwell) > 0 {
			sum = fmt.Sprintf("%d not well: %s", len(unwell), someOf(unwell))
		}
		fmt.Fprintf(std.out, "\n%s checked, %s\n", count(checked, "account"), sum)
	}
	return worst(classes...)
}

// sinks reports on the filter and the sinks of an account.
func (l *checklist) sinks(ctx context.Context, cfg *config.Config, w *wiring, a config.Account) fetch.Class {
	class := fetch.ClassFine
	report := func(what, text string, err error) {
		if err == nil {
			l.good("%s: %s", what, text)
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
		l.bad(fmt.Sprintf("%s: %v", what, err), hint)
		l.rejected(err, time.Now())
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
		text, err := probeSink(ctx, cfg.Sink(name), w.sinks[name])
		report("sink "+name, text, err)
	}
	return class
}
