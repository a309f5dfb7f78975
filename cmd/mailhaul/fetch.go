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

// fetchOptions are the options of mailhaul fetch. The daemon has some of them.
type fetchOptions struct {
	configPath     string
	accounts       []string // names; none means all
	onlyFailed     bool
	keepAll        bool
	dryRun         bool
	logFormat      string
	trace          string
	progress       string
	verbose, quiet bool
}

// verboseFlag and quietFlag return options of every command that polls.
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
		Action:       func(c *cli.Context) error { return runFetch(c.Context, std, newFetchOptions(c)) },
	}
}

// newFetchOptions returns the options of fetch or daemon, which has fewer of them.
func newFetchOptions(c *cli.Context) fetchOptions {
	return fetchOptions{
		configPath: c.String("config"),
		accounts:   c.Args().Slice(),
		onlyFailed: c.Bool("failed"),
		keepAll:    c.Bool("keep"),
		dryRun:     c.Bool("dry-run"),
		logFormat:  c.String("log-format"),
		trace:      c.String("trace"),
		progress:   c.String("progress"),
		verbose:    c.Bool("verbose"),
		quiet:      c.Bool("quiet"),
	}
}

// validate checks the options that fetch and daemon share. It comes before the
// configuration is read, whose mistakes would hide those of the command line.
func (o fetchOptions) validate() error {
	if formats := optionValues["log-format"]; !slices.Contains(formats, o.logFormat) {
		return usagef("write one of "+strings.Join(formats, ", "), "--log-format %q is not known", o.logFormat)
	}
	if o.verbose && o.quiet {
		return usagef("", "-v and -q cannot be used together")
	}
	return nil
}

// fetchRun is a run of mailhaul fetch after everything is opened.
type fetchRun struct {
	opts           fetchOptions
	std            stdio // writes to stdout and stderr, above the bars of screen
	stdout, stderr *abandonableWriter
	screen         *screen // nil without progress bars
	cfg            *config.Config
	wiring         *wiring
	trace          *trace
	store          *state.Store
	accounts       []config.Account // to poll
	notFailed      int              // how many more --failed leaves out
}

// runFetch polls each account once and returns the outcome of the worst.
func runFetch(ctx context.Context, std stdio, o fetchOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	bars, err := wantsProgress(std, o)
	if err != nil {
		return err
	}
	cfg, chosen, w, err := loadAndWire(o.configPath, o.accounts)
	if err != nil {
		// In --keep 14d, 14d is taken for the name of an account.
		if e, ok := errors.AsType[*failure](err); ok && e.exit == exitUsage && o.keepAll {
			e.hint = "--keep takes no value; " + e.hint
		}
		return err
	}
	defer w.Close()
	tuneRuntime(min(len(chosen), cfg.Parallel))
	r := &fetchRun{
		opts: o, cfg: cfg, wiring: w, accounts: chosen,
		stdout: newAbandonableWriter(std.out), stderr: newAbandonableWriter(std.err),
	}
	r.std = stdio{out: r.stdout, err: r.stderr}
	if bars {
		r.screen = &screen{out: r.stderr}
		r.std = stdio{out: r.screen.writerAbove(r.stdout), err: r.screen.writerAbove(r.stderr)}
	}
	r.trace, err = openTrace(o.trace)
	if err != nil {
		return err
	}
	defer r.trace.close(r.std)
	store, closeStore, err := openFetchState(ctx, cfg, o.dryRun)
	if err != nil {
		return err
	}
	defer closeStore()
	r.store = store
	if o.onlyFailed {
		if r.accounts, err = selectFailed(ctx, store, chosen); err != nil {
			return err
		}
		r.notFailed = len(chosen) - len(r.accounts)
	}
	return r.poll(ctx)
}

// poll polls the accounts, reports on them, and sums up.
func (r *fetchRun) poll(ctx context.Context) error {
	accounts := r.wiring.accounts(r.accounts)
	r.trace.traceAccounts(accounts...)
	out, err := r.newReporters(ctx, accounts)
	if err != nil {
		return err
	}
	metrics, err := openMetricsFile(ctx, r.cfg, r.store, out.alerts, r.opts.quiet)
	if err != nil {
		return err
	}
	if r.screen != nil {
		out.reporter = newProgress(out.alerts, r.screen, painter(isTerminal(r.std.err)), len(accounts))
	}
	onFirst := func() { out.note("finishing the batch; press ^C again to hang up") }
	onSecond := func() {
		if r.wiring.isRenewingToken() {
			out.warn(tokenWaitText)
		}
	}
	ctx, drain, stop := drainOnSignal(ctx, onFirst, onSecond)
	defer stop()
	defer context.AfterFunc(ctx, r.stderr.abandon)()
	defer context.AfterFunc(ctx, r.stdout.abandon)()
	defer out.alerts.close(ctx) // runs before stop: only a second signal ends the wait for the notify command

	observe := func(e fetch.Event) {
		r.trace.observe(e)
		out.observe(e)
		metrics.observe(e)
	}
	fetchSetup := r.wiring.fetchSetup(r.cfg, r.store, accounts, observe)
	fetchSetup.Options.Drain = drain
	fetchSetup.Options.KeepAll = r.opts.keepAll
	fetchSetup.Options.DryRun = r.opts.dryRun
	fetchSetup.Options.Insist = len(r.opts.accounts) > 0
	summaries := fetch.Once(ctx, fetchSetup)
	class := fetch.ClassFine
	for _, s := range summaries {
		class = max(class, s.Class)
		if s.Started.IsZero() { // its turn did not come, and no event has reported it
			out.observe(fetch.Finished{Summary: s})
		}
		if s.Unfetched > 0 && isClosed(drain) { // the signal is to blame, not the account
			class = max(class, fetch.ClassRetry)
		}
	}
	if !r.opts.dryRun {
		metrics.save(saveGrace)
		r.wiring.sessions.Save()
	}
	out.total(summaries)
	out.digest.reportOthers()
	return worstOutcome(class)
}

// fetchReporters are the outermost reporter of a fetch, and those below it that have
// something left to do at the end.
type fetchReporters struct {
	reporter
	alerts *alertReporter
	digest *digest
}

// newReporters makes the reporters for accounts, all but the progress bars. Each wraps
// the one before it: text or JSON, the digest, the alerts.
func (r *fetchRun) newReporters(ctx context.Context, accounts []*fetch.Account) (out fetchReporters, err error) {
	inner := newReporter(r.std, r.opts, r.accounts, r.wiring)
	out.digest = &digest{reporter: inner}
	if r.opts.quiet && r.opts.logFormat != "json" {
		inner = out.digest
	}
	out.alerts = &alertReporter{quiet: r.opts.quiet, dryRun: r.opts.dryRun}
	if err := out.alerts.reconfigure(ctx, inner, r.store, r.cfg, accounts); err != nil {
		return out, err
	}
	out.reporter = out.alerts
	if r.notFailed > 0 {
		out.note(fmt.Sprintf("polling %d of %s: the last poll of the others did not fail", len(accounts), count(len(accounts)+r.notFailed, "account")))
	}
	return out, nil
}

// selectFailed returns the accounts that were never polled, and those whose last poll
// failed. An account whose turn did not come in a run has no poll in that run.
func selectFailed(ctx context.Context, store *state.Store, accounts []config.Account) (selected []config.Account, err error) {
	for _, a := range accounts {
		last, err := store.Polls(ctx, a.Name, 1)
		if err != nil {
			return nil, err
		}
		if len(last) == 0 || last[0].Result != fetch.ClassFine.String() && last[0].Result != fetch.ClassRefused.String() {
			selected = append(selected, a)
		}
	}
	return selected, nil
}

// openFetchState opens the state, for a dry run only to read it.
func openFetchState(ctx context.Context, cfg *config.Config, dryRun bool) (store *state.Store, done func(), err error) {
	if dryRun {
		return openStateReadOnly(ctx, cfg.State)
	}
	store, err = state.Open(ctx, cfg.State)
	if err != nil {
		return nil, nil, err
	}
	return store, func() { store.Close() }, nil
}
