package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// desk passes news on to the notify command, and remembers what was told. In a
// daemon it outlives reloads, as long as there is a command: news is told in order,
// and what waits is told by the command in force.
type desk struct {
	watch *notify.Watch
	queue *notify.Queue // nil without a command

	serial
	argv    []string
	servers map[string]string // by account
	warn    func(text string)
}

// notifyGrace is how long a run that has ended waits for the notify command.
const notifyGrace = time.Minute

// newDesk makes a desk for accounts; an empty argv is no command.
func newDesk(ctx context.Context, watch *notify.Watch, argv []string, accounts []*fetch.Account, warn func(string)) *desk {
	d := &desk{watch: watch, servers: map[string]string{}}
	d.use(argv, accounts, warn)
	if len(argv) > 0 {
		d.queue = notify.NewQueue(ctx, d.tell, d.told)
	}
	return d
}

// use has the command and the accounts of a configuration take the place of those
// before. Of accounts that are gone there may be news that waits.
func (d *desk) use(argv []string, accounts []*fetch.Account, warn func(string)) {
	d.do(func() {
		d.argv, d.warn = argv, warn
		for _, a := range accounts {
			d.servers[a.Name] = a.Server.Addr()
		}
	})
}

func (d *desk) tell(ctx context.Context, n notify.News) error {
	var c notify.Command
	d.do(func() {
		c = notify.Command{Argv: d.argv, Server: d.servers[n.Summary.Account]}
	})
	return c.Run(ctx, n)
}

func (d *desk) close(ctx context.Context) {
	if d == nil || d.queue == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, notifyGrace)
	defer cancel()
	d.queue.Close(ctx)
}

func (d *desk) add(n notify.News) {
	switch {
	case d == nil:
	case d.queue != nil:
		d.queue.Add(n)
	default:
		d.told(n, nil)
	}
}

// told remembers that news was told. The command had its chance even if it
// failed: trying again at each poll would only repeat that.
func (d *desk) told(n notify.News, err error) {
	var warn func(string)
	d.do(func() { warn = d.warn })
	if err != nil {
		warn(fmt.Sprintf("the notify command could not tell that %s: %v", n, err))
	}
	if err := d.watch.Told(n); err != nil {
		warn(fmt.Sprintf("cannot remember what was told of %s: %v", n.Summary.Account, err))
	}
}

// teller is a reporter that finds out what is news, and has a desk pass it on.
// If it is quiet, then urgent news is all that it reports. In a daemon it
// outlives reloads.
type teller struct {
	quiet bool

	serial
	to    reporter
	watch *notify.Watch // nil if nobody wants to know what is news
	desk  *desk         // nil also in a dry run, of which nobody is told

	before sync.WaitGroup // desks that were replaced and may still tell
}

// newTeller makes a teller for the accounts of a configuration.
func newTeller(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, quiet, dry bool) (*teller, error) {
	t := &teller{quiet: quiet}
	return t, t.use(ctx, to, store, cfg, accounts, dry)
}

// use has a reporter and the accounts of a configuration take the place of
// those before; what was news by then is still told. The end of ctx ends the
// notify command. After an error all is as it was.
func (t *teller) use(ctx context.Context, to reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, dry bool) (err error) {
	watch, before, desk := t.watch, t.desk, (*desk)(nil)
	switch {
	case !t.quiet && (cfg.Notify == nil || dry):
		watch = nil
	case watch == nil:
		if watch, err = notify.NewWatch(ctx, store, time.Now); err != nil {
			return err
		}
	}
	switch {
	case watch == nil || dry:
	case before != nil && before.queue != nil && len(cfg.Notify) > 0:
		desk = before
		desk.use(cfg.Notify, accounts, to.warn)
	default:
		desk = newDesk(ctx, watch, cfg.Notify, accounts, to.warn)
	}
	t.do(func() { t.to, t.watch, t.desk = to, watch, desk })
	if before != nil && before != desk {
		t.before.Go(func() { before.close(ctx) })
	}
	return nil
}

// close waits for the notify command, but not for long.
func (t *teller) close(ctx context.Context) {
	t.desk.close(ctx)
	t.before.Wait()
}

func (t *teller) observe(e fetch.Event) {
	t.do(func() {
		if !t.quiet {
			t.to.observe(e)
		}
		if t.watch == nil {
			return
		}
		all := t.watch.See(e)
		if t.quiet {
			t.speak(e, all)
		}
		for _, n := range all {
			t.desk.add(n)
		}
	})
}

// speak reports what is urgent: the refused messages, the recovery, and then
// the event that all of it is about.
func (t *teller) speak(about fetch.Event, all []notify.News) {
	urgent := false
	for _, n := range all {
		urgent = urgent || n.Urgent()
		for _, refused := range n.Refused {
			t.to.observe(refused)
		}
		if n.Kind == notify.Recovered && n.Urgent() {
			t.to.note(fmt.Sprintf("%s works again; it had failed for %s", n.Summary.Account, span(n.Summary.Ended.Sub(n.Since))))
		}
	}
	if urgent {
		t.to.observe(about)
	}
}

// note says nothing if quiet: who asked for that and pressed ^C knows.
func (t *teller) note(text string) {
	if !t.quiet {
		t.do(func() { t.to.note(text) })
	}
}

func (t *teller) warn(text string) { t.do(func() { t.to.warn(text) }) }

func (t *teller) total(all []fetch.Summary) {
	if !t.quiet {
		t.to.total(all)
	}
}
