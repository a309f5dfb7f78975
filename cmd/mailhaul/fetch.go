package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// fetchOptions are the options of mailhaul fetch; the daemon has some of them.
type fetchOptions struct {
	configPath      string
	accounts        []string
	onlyFailed      bool
	keepAll, dryRun bool
	logFormat       string
	trace           string
	progress        string
	verbose, quiet  bool
}

// verboseFlag and quietFlag are options of every command that polls.
func verboseFlag() cli.Flag { return toggle("verbose", "report each step and each message", "v") }
func quietFlag() cli.Flag   { return toggle("quiet", "report only what needs attention", "q") }

func fetchCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "fetch",
		Usage:     "fetch new mail from all accounts, or from those named",
		ArgsUsage: "[ACCOUNT…]",
		Description: "It reports on standard error; a dry run, unless in JSON, on standard output. An\n" +
			"account that is named is polled even if its server has asked for a pause.\n\n" +
			"Exit codes: 0 all well, with or without mail; 64 wrong command line; 65 messages\n" +
			"that could not be delivered stay on a server; 74 trouble of this machine, such as a\n" +
			"full disk; 75 temporary trouble; 77 a person is needed, for a password or a\n" +
			"certificate; 78 wrong configuration. The worst account decides. Skipped accounts,\n" +
			"and mail over max_size, are no failures.\n\n" +
			"At the first SIGINT (^C), SIGTERM or SIGHUP it finishes cleanly: messages on their\n" +
			"way are delivered, and deleted from their server. At the second it hangs up. After\n" +
			"either, the exit code is 75 if something was left undone.\n\n" +
			"For --failed, an account whose poll such a signal cut short has failed, and one whose\n" +
			"turn did not come has not.",
		Flags: []cli.Flag{
			configFlag(),
			toggle("failed", "poll only accounts whose last poll failed, or that were never polled"),
			toggle("keep", "delete nothing from any server this time"),
			toggle("dry-run", "say what would be fetched and deleted, and change nothing", "n"),
			&cli.StringFlag{Name: "log-format", Value: "auto", Usage: "report in `FORMAT`: text, json, or auto, which is text"},
			traceFlag(),
			&cli.StringFlag{Name: "progress", Value: "auto", Usage: "draw progress bars `WHEN`: always, never, or auto, which is on a terminal"},
			verboseFlag(),
			quietFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			return runFetch(c.Context, std, fetchOptions{
				configPath: c.String("config"), accounts: c.Args().Slice(), onlyFailed: c.Bool("failed"), keepAll: c.Bool("keep"), dryRun: c.Bool("dry-run"),
				logFormat: c.String("log-format"), trace: c.String("trace"), progress: c.String("progress"),
				verbose: c.Bool("verbose"), quiet: c.Bool("quiet"),
			})
		},
	}
}

// check refuses options before anything is read that takes long, or is wrong too.
func (o fetchOptions) validate() error {
	if formats := optionValues["log-format"]; !slices.Contains(formats, o.logFormat) {
		return usagef("write one of "+strings.Join(formats, ", "), "--log-format %q is not known", o.logFormat)
	}
	if o.verbose && o.quiet {
		return usagef("", "-v and -q cannot be used together")
	}
	return nil
}

// runFetch polls once and returns the outcome of the worst account.
func runFetch(ctx context.Context, std stdio, o fetchOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	bars, err := wantsProgress(std, o)
	if err != nil {
		return err
	}
	cfg, chosen, w, err := wired(o.configPath, o.accounts)
	if e, ok := errors.AsType[*failure](err); ok && e.exit == exitUsage && o.keepAll {
		e.hint = "--keep takes no value; " + e.hint
	}
	if err != nil {
		return err
	}
	defer w.Close()
	tune(min(len(chosen), cfg.Parallel))
	heard, read := newLeavable(std.err), newLeavable(std.out)
	screen := &screen{out: heard}
	std = stdio{out: read, err: heard}
	if bars {
		std = stdio{out: screen.above(read), err: screen.above(heard)}
	}
	traced, err := openTrace(o.trace)
	if err != nil {
		return err
	}
	defer traced.close(std)
	store, done, err := openFetchState(ctx, cfg, o.dryRun)
	if err != nil {
		return err
	}
	defer done()
	asked := len(chosen)
	if o.onlyFailed {
		if chosen, err = selectFailed(ctx, store, chosen); err != nil {
			return err
		}
	}
	out := newReporter(std, o, chosen, w)
	common := &digest{reporter: out}
	if o.quiet && o.logFormat != "json" {
		out = common
	}
	accounts := w.accounts(chosen)
	traced.follow(accounts...)
	news, err := newTeller(ctx, out, store, cfg, accounts, o.quiet, o.dryRun)
	if err != nil {
		return err
	}
	out = news
	if len(chosen) < asked {
		out.note(fmt.Sprintf("polling %d of %s: the last poll of the others did not fail", len(chosen), count(asked, "account")))
	}
	counted, saveCounts, err := openMetricsFile(ctx, cfg, store, out, o.quiet)
	if err != nil {
		return err
	}
	if bars {
		out = newProgress(out, screen, painter(isTerminal(std.err)), len(chosen))
	}
	ctx, drain, stop := drainOnSignal(ctx, func() { out.note("finishing the batch; press ^C again to hang up") }, func() {
		if w.renewing() {
			out.warn(waitsForToken)
		}
	})
	defer stop()
	defer context.AfterFunc(ctx, heard.leave)()
	defer context.AfterFunc(ctx, read.leave)()
	defer news.close(ctx) // before stop: the first signal leaves the notify command alone

	summaries := fetch.Once(ctx, fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost,
		Options: fetch.Options{
			State: store, Sinks: w.sinks, Scratch: cfg.State, Sweep: w.spool.Sweep, Observer: joinObservers(traced.observe, out.observe, counted), Drain: drain,
			KeepAll: o.keepAll, DryRun: o.dryRun, Host: w.host, Insist: len(o.accounts) > 0,
		},
	})
	classes := make([]fetch.Class, len(summaries))
	for i, s := range summaries {
		classes[i] = s.Class
		if s.Started.IsZero() { // its turn did not come, so that no event told of it
			out.observe(fetch.Finished{Summary: s})
		}
		if s.Unfetched > 0 && closed(drain) { // which is no fault of the account
			classes = append(classes, fetch.ClassRetry)
		}
	}
	if !o.dryRun {
		saveCounts(saveGrace)
		w.sessions.Save()
	}
	out.total(summaries)
	common.reportOthers()
	return worstOutcome(classes...)
}

// selectFailed returns the accounts whose last poll failed, and those that were never
// polled. That of one whose turn did not come is the one before.
func selectFailed(ctx context.Context, store *state.Store, accounts []config.Account) (some []config.Account, err error) {
	for _, a := range accounts {
		last, err := store.Polls(ctx, a.Name, 1)
		if err != nil {
			return nil, err
		}
		if len(last) == 0 || last[0].Result != fetch.ClassFine.String() && last[0].Result != fetch.ClassRefused.String() {
			some = append(some, a)
		}
	}
	return some, nil
}

// openFetchState opens the state; a dry run only reads it.
func openFetchState(ctx context.Context, cfg *config.Config, dry bool) (*state.Store, func(), error) {
	if dry {
		return readState(ctx, cfg.State)
	}
	store, err := state.Open(ctx, cfg.State)
	if err != nil {
		return nil, nil, err
	}
	return store, func() { store.Close() }, nil
}
