package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/systemd"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func daemonCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "keep polling: every account at its own interval",
		Description: "It runs in the foreground and reports on standard error, one line for each poll.\n\n" +
			"SIGHUP makes it reload the configuration; one with mistakes is refused, and the old\n" +
			"one stays in force. SIGUSR1 makes it poll all accounts now, except those whose\n" +
			"server wants a pause. SIGTERM and SIGINT shut it down cleanly, within the configured\n" +
			"grace; a second one makes it hang up at once.\n\n" +
			"Exit codes: 0 shut down cleanly; 64 wrong command line; 74 trouble of this machine;\n" +
			"75 another daemon is running, or the address for metrics is taken; 77 the state\n" +
			"folder is damaged or open to others; 78 wrong configuration.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "log-format", Value: "auto", Usage: "report in `FORMAT`: text, json, or auto, which is text on a terminal"},
			traceFlag(),
			verboseFlag(),
			quietFlag(),
		},
		OnUsageError: badFlag,
		Before:       noArgs,
		Action:       func(c *cli.Context) error { return runDaemon(c.Context, std, newFetchOptions(c)) },
	}
}

// daemon is a run of mailhaul daemon.
type daemon struct {
	std            stdio
	opts           fetchOptions
	store          *state.Store
	trace          *trace
	out            *alertReporter
	monitor        *monitor
	serviceManager systemd.Manager
	orders         chan fetch.Order // to the scheduler
	// The configuration in force. A reload replaces these.
	cfg        *config.Config
	wiring     *wiring
	accounts   []*fetch.Account
	seenLogins map[string]time.Time // the last logins that polls took up, by the keys of the grants
	// A poll under way during a reload keeps its targets and its wiring to its end.
	activeTargets map[string]string // by account; shared by all textReporters
	openWirings   sync.WaitGroup    // the wirings that are not closed yet
}

// runDaemon polls until a signal or a failed disk ends it.
func runDaemon(ctx context.Context, std stdio, o fetchOptions) error {
	if err := o.validate(); err != nil {
		return err
	}
	signals := newDaemonSignals()
	cfg, err := loadConfig(o.configPath)
	if err != nil {
		return err
	}
	store, err := state.Open(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer store.Close()
	lease, err := store.DaemonLease()
	if err != nil {
		return err
	}
	defer lease.Release()
	out := &alertReporter{quiet: o.quiet}
	log := newBacklog(std.err, func(lines int) {
		out.warn(fmt.Sprintf("nobody has read this log for a while: %s left out", count(lines, "line")))
	})
	defer log.close()
	std.err = log
	traced, err := openTrace(o.trace)
	if err != nil {
		return err
	}
	defer traced.close(std)
	d := &daemon{
		std: std, opts: o, store: store, trace: traced, out: out, orders: make(chan fetch.Order), activeTargets: map[string]string{},
	}
	return d.run(ctx, cfg, signals)
}

// run starts the scheduler, obeys signals, and shuts down: polls under way have the grace
// of the configuration to finish, unless another signal hangs up.
func (d *daemon) run(ctx context.Context, cfg *config.Config, signals daemonSignals) error {
	notifyCtx, cancelNotify := context.WithCancel(ctx) // the notify command outlives the polls
	defer cancelNotify()
	fetchSetup, err := d.applyConfig(notifyCtx, cfg)
	if err != nil {
		return err
	}
	defer d.out.close(notifyCtx)
	signals.catchTermination()
	stopMonitor, err := d.startMonitor(ctx)
	if err != nil {
		d.wiring.Close()
		return err
	}
	defer stopMonitor()

	pollCtx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	drain, ended := make(chan struct{}), make(chan struct{})
	fetchSetup.Options.Drain = drain
	d.reportReady()
	if known, err := d.store.Accounts(ctx); err == nil && len(known) == 0 {
		d.out.note(tilde(cfg.State) + " remembers no mail yet: all that is on the servers counts as new")
	}
	go func() {
		defer close(ended)
		fetch.Run(pollCtx, fetchSetup, d.orders, d.onTurn)
	}()
	d.out.note(fmt.Sprintf("polling %s", count(len(cfg.Accounts), "account")))

	err = d.handleSignals(notifyCtx, signals)
	d.serviceManager.Stopping()
	d.out.note(fmt.Sprintf("finishing the polls under way, for %v at most; another signal hangs up", d.cfg.Grace))
	close(drain)
	grace := time.AfterFunc(d.cfg.Grace, hangUp)
	defer grace.Stop()
	go func() {
		<-signals.terminate
		hangUp()
		cancelNotify()
		if d.wiring.isRenewingToken() {
			d.out.warn(tokenWaitText)
		}
	}()
	<-ended
	d.openWirings.Wait()
	d.out.note("ended")
	return err
}

// handleSignals obeys signals until one ends the daemon or ctx ends. It returns an error
// if the disk of the state failed: a daemon that starts anew may find it well again.
func (d *daemon) handleSignals(ctx context.Context, signals daemonSignals) error {
	ticker := time.NewTicker(loginCheckInterval)
	defer ticker.Stop()
	d.pollNewLogins(ctx)
	for {
		checkLogins := ticker.C
		if len(d.wiring.tokenSources) == 0 {
			checkLogins = nil // there are none to look for
		}
		select {
		case err := <-d.store.Failed():
			return err
		case <-signals.terminate:
			return nil
		case <-signals.reload:
			if !d.reload(ctx, signals.terminate) {
				return nil
			}
		case <-signals.pollNow:
			d.out.note("polling all accounts now, but for those whose server wants a pause")
			d.sendOrder(ctx, fetch.PollNow{})
		case <-checkLogins:
			d.pollNewLogins(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// applyConfig puts a configuration in force and returns the setup for the scheduler, or
// leaves all as it was and returns an error. The end of ctx ends the notify command.
func (d *daemon) applyConfig(ctx context.Context, cfg *config.Config) (_ fetch.Setup, err error) {
	w, err := rewire(d.wiring, cfg)
	if err != nil {
		return fetch.Setup{}, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	accounts := w.accounts(cfg.Accounts)
	pollNow, err := d.accountsToPollNow(ctx, cfg)
	if err != nil {
		return fetch.Setup{}, err
	}
	seen, err := d.initialSeenLogins(cfg, w)
	if err != nil {
		return fetch.Setup{}, err
	}
	if err := d.out.reconfigure(ctx, d.newReporter(cfg, w), d.store, cfg, accounts); err != nil {
		return fetch.Setup{}, err
	}
	tuneRuntime(min(len(accounts), cfg.Parallel))
	d.openWirings.Add(1)
	d.cfg, d.wiring, d.accounts, d.seenLogins = cfg, w, accounts, seen
	d.trace.traceAccounts(accounts...)
	fetchSetup := w.fetchSetup(cfg, d.store, accounts, d.observe)
	fetchSetup.Fresh = func(name string) bool { return pollNow[name] }
	fetchSetup.Done = func() {
		go func() { // Close may wait for a token that is being refreshed
			defer d.openWirings.Done()
			w.sessions.Save()
			w.Close()
		}()
	}
	return fetchSetup, nil
}

// newReporter returns the reporter for a configuration. The log format auto means text
// on a terminal, else JSON.
func (d *daemon) newReporter(cfg *config.Config, w *wiring) reporter {
	o := d.opts
	if o.logFormat == "auto" && !isTerminal(d.std.err) {
		o.logFormat = "json"
	}
	r := newReporter(d.std, o, cfg.Accounts, w)
	if text, ok := r.(*textReporter); ok {
		text.clock, text.pollTargets = time.DateTime, d.activeTargets
	}
	return r
}

// sendOrder reports whether the scheduler took an order before ctx ended.
func (d *daemon) sendOrder(ctx context.Context, o fetch.Order) bool {
	select {
	case d.orders <- o:
		return true
	case <-ctx.Done():
		return false
	}
}

// reload reads the configuration again and puts it in force, unless it has mistakes. The
// file may be a pipe or on a disk that hangs: reload returns false if a signal ends the
// daemon while it reads.
func (d *daemon) reload(ctx context.Context, end <-chan os.Signal) bool {
	d.serviceManager.Reloading()
	defer d.reportReady()
	var cfg *config.Config
	var err error
	loaded := make(chan struct{})
	go func() {
		cfg, err = loadConfig(d.opts.configPath)
		close(loaded)
	}()
	select {
	case <-loaded:
	case <-end:
		return false
	}
	if err == nil {
		err = d.replaceConfig(ctx, cfg)
	}
	if err != nil {
		d.out.warn(fmt.Sprintf("not reloaded, the old configuration stays in force: %v", err))
		if hint := hintOf(err); hint != "" {
			d.out.warn("hint: " + hint)
		}
	}
	return true
}

// replaceConfig puts a configuration in force and hands it to the scheduler.
func (d *daemon) replaceConfig(ctx context.Context, cfg *config.Config) error {
	if cfg.State != d.cfg.State {
		return fmt.Errorf("%s: state names another folder now: restart the daemon for that", cfg.Path)
	}
	fetchSetup, err := d.applyConfig(ctx, cfg)
	if err != nil {
		return err
	}
	if !d.sendOrder(ctx, fetchSetup) {
		fetchSetup.Done()
		return nil
	}
	d.out.note("reloaded: polling " + count(len(cfg.Accounts), "account"))
	return nil
}

// accountsToPollNow returns the accounts to poll as soon as a configuration comes into
// force: those that a reload changes, and those whose last poll called for a person, who
// may have corrected something outside of the configuration, such as a password.
func (d *daemon) accountsToPollNow(ctx context.Context, cfg *config.Config) (map[string]bool, error) {
	old := map[string]*config.Account{}
	if d.cfg != nil {
		for i, a := range d.cfg.Accounts {
			old[a.Name] = &d.cfg.Accounts[i]
		}
	}
	pollNow := map[string]bool{}
	for _, a := range cfg.Accounts {
		last, err := d.store.Polls(ctx, a.Name, 1)
		if err != nil {
			return nil, err
		}
		changed := d.cfg != nil && (old[a.Name] == nil || !old[a.Name].SameAs(&a))
		pollNow[a.Name] = changed || len(last) > 0 && last[0].Result == fetch.ClassOperator.String()
	}
	return pollNow, nil
}
