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
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return runDaemon(c.Context, std, fetchOptions{
				configPath: c.String("config"), logFormat: c.String("log-format"), trace: c.String("trace"),
				verbose: c.Bool("verbose"), quiet: c.Bool("quiet"),
			})
		},
	}
}

// daemon is a run of mailhaul daemon.
type daemon struct {
	std            stdio
	opts           fetchOptions
	store          *state.Store
	out            *teller
	orders         chan fetch.Order
	monitor        *monitor
	serviceManager systemd.Manager
	trace          *trace
	// In force.
	cfg           *config.Config
	wiring        *wiring
	accounts      []*fetch.Account
	seenLogins    map[string]time.Time // those of wiring.loginTimes that were seen
	activeTargets map[string]string    // textReporter.going, which outlives reloads
	// closing are the wirings that are not closed yet. One that was replaced
	// is closed when the last poll that uses it has ended.
	openWirings sync.WaitGroup
}

// runDaemon polls until it is told to end.
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
	out := &teller{quiet: o.quiet}
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
		std: std, opts: o, store: store, trace: traced, orders: make(chan fetch.Order), out: out, activeTargets: map[string]string{},
	}
	talk, hush := context.WithCancel(ctx) // for what outlives the polls: the notify command
	defer hush()
	setup, err := d.applyConfig(talk, cfg)
	if err != nil {
		return err
	}
	defer d.out.close(talk)
	signals.noteEnd()
	unwatch, err := d.startMonitor(ctx)
	if err != nil {
		d.wiring.Close()
		return err
	}
	defer unwatch()

	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	drain, ended := make(chan struct{}), make(chan struct{})
	setup.Options.Drain = drain
	d.reportReady()
	if known, err := store.Accounts(ctx); err == nil && len(known) == 0 {
		d.out.note(tilde(cfg.State) + " remembers no mail yet: all that is on the servers counts as new")
	}
	go func() {
		defer close(ended)
		fetch.Run(ctx, setup, d.orders, d.onTurn)
	}()
	d.out.note(fmt.Sprintf("polling %s", count(len(cfg.Accounts), "account")))

	failure := d.handleSignals(talk, signals)
	d.serviceManager.Stopping()
	d.out.note(fmt.Sprintf("finishing the polls under way, for %v at most; another signal hangs up", d.cfg.Grace))
	close(drain)
	grace := time.AfterFunc(d.cfg.Grace, hangUp)
	defer grace.Stop()
	go func() {
		<-signals.end
		hangUp()
		hush()
		if d.wiring.renewing() {
			d.out.warn(waitsForToken)
		}
	}()
	<-ended
	d.openWirings.Wait()
	d.out.note("ended")
	return failure
}

// handleSignals obeys signals until one ends the daemon, or ctx does. The error is that
// of a disk that failed: the next daemon may find it well again.
func (d *daemon) handleSignals(ctx context.Context, signals daemonSignals) error {
	look := time.NewTicker(loginCheckInterval)
	defer look.Stop()
	d.pollNewLogins(ctx)
	for {
		looks := look.C
		if len(d.wiring.sources) == 0 {
			looks = nil // so that nothing wakes for it
		}
		select {
		case err := <-d.store.Failed():
			return err
		case <-signals.end:
			return nil
		case <-signals.reload:
			if !d.reload(ctx, signals.end) {
				return nil
			}
		case <-signals.now:
			d.out.note("polling all accounts now, but for those whose server wants a pause")
			d.sendOrder(ctx, fetch.PollNow{})
		case <-looks:
			d.pollNewLogins(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// applyConfig wires a configuration and puts it in force. Its notify command may run
// until ctx ends.
func (d *daemon) applyConfig(ctx context.Context, cfg *config.Config) (fetch.Setup, error) {
	w, err := wireAfter(d.wiring, cfg)
	if err != nil {
		return fetch.Setup{}, err
	}
	accounts := w.accounts(cfg.Accounts)
	fresh, err := d.accountsToPollNow(ctx, cfg)
	var logins map[string]time.Time
	if err == nil {
		logins, err = d.initialSeenLogins(cfg, w)
	}
	if err == nil {
		err = d.out.use(ctx, d.newReporter(cfg, w), d.store, cfg, accounts, false)
	}
	if err != nil {
		w.Close()
		return fetch.Setup{}, err
	}
	tune(min(len(accounts), cfg.Parallel))
	d.openWirings.Add(1)
	d.cfg, d.wiring, d.accounts = cfg, w, accounts
	d.seenLogins = logins
	d.trace.follow(d.accounts...)
	return fetch.Setup{
		Accounts: d.accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost,
		Options: fetch.Options{
			State: d.store, Sinks: w.sinks, Scratch: cfg.State, Sweep: w.spool.Sweep, Host: w.host, Observer: d.observe,
		},
		Fresh: func(name string) bool { return fresh[name] },
		Done: func() {
			go func() { // a token that is being refreshed may take a while
				defer d.openWirings.Done()
				w.sessions.Save()
				w.Close()
			}()
		},
	}, nil
}

// newReporter returns one for the accounts of a configuration: text with the time
// for a person at a terminal, else JSON.
func (d *daemon) newReporter(cfg *config.Config, w *wiring) reporter {
	o := d.opts
	if o.logFormat == "auto" && !isTerminal(d.std.err) {
		o.logFormat = "json"
	}
	r := newReporter(d.std, o, cfg.Accounts, w)
	if text, ok := r.(*textReporter); ok {
		text.clock, text.going = time.DateTime, d.activeTargets
	}
	return r
}

// sendOrder tells the scheduler what to do, unless ctx ends before it listens.
func (d *daemon) sendOrder(ctx context.Context, o fetch.Order) (heard bool) {
	select {
	case d.orders <- o:
		return true
	case <-ctx.Done():
		return false
	}
}

// reload reads the configuration again. One that is wrong changes nothing. Its file
// may be on a disk that hangs, or a pipe: it returns false if a signal ends the daemon
// while that is read.
func (d *daemon) reload(ctx context.Context, end <-chan os.Signal) bool {
	d.serviceManager.Reloading()
	defer d.reportReady()
	var cfg *config.Config
	var err error
	read := make(chan struct{})
	go func() {
		cfg, err = loadConfig(d.opts.configPath)
		close(read)
	}()
	select {
	case <-read:
	case <-end:
		return false
	}
	if err == nil && cfg.State != d.cfg.State {
		err = fmt.Errorf("%s: state names another folder now: restart the daemon for that", cfg.Path)
	}
	var setup fetch.Setup
	if err == nil {
		setup, err = d.applyConfig(ctx, cfg)
	}
	if err != nil {
		d.out.warn(fmt.Sprintf("not reloaded, the old configuration stays in force: %v", err))
		if hint := hintOf(err); hint != "" {
			d.out.warn("hint: " + hint)
		}
		return true
	}
	if !d.sendOrder(ctx, setup) {
		setup.Done()
		return true
	}
	d.out.note("reloaded: polling " + count(len(cfg.Accounts), "account"))
	return true
}

// accountsToPollNow returns which accounts are polled at once when a configuration comes into
// force: those that it changes, and those whose last poll called for a person, who may
// have mended what was wrong outside of the configuration, such as a password.
func (d *daemon) accountsToPollNow(ctx context.Context, cfg *config.Config) (map[string]bool, error) {
	before := map[string]*config.Account{}
	if d.cfg != nil {
		for i, a := range d.cfg.Accounts {
			before[a.Name] = &d.cfg.Accounts[i]
		}
	}
	fresh := map[string]bool{}
	for _, a := range cfg.Accounts {
		last, err := d.store.Polls(ctx, a.Name, 1)
		if err != nil {
			return nil, err
		}
		was := before[a.Name]
		fresh[a.Name] = d.cfg != nil && (was == nil || !was.SameAs(&a)) ||
			len(last) > 0 && last[0].Result == fetch.ClassOperator.String()
	}
	return fresh, nil
}
