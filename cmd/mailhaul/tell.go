package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// desk passes news on to the notify command, and remembers what was told.
type desk struct {
	store *state.Store
	note  func(text string)
	queue *notify.Queue // nil without a command
}

// notifyGrace is how long a run that has ended waits for the notify command.
const notifyGrace = time.Minute

// newDesk makes a desk for accounts; an empty argv is no command.
func newDesk(ctx context.Context, store *state.Store, argv []string, accounts []*fetch.Account, note func(string)) *desk {
	d := &desk{store: store, note: note}
	if len(argv) == 0 {
		return d
	}
	servers := map[string]string{}
	for _, a := range accounts {
		servers[a.Name] = a.Server.Addr()
	}
	command := notify.Command{Argv: argv, Server: func(account string) string { return servers[account] }}
	d.queue = notify.NewQueue(ctx, command.Run, d.told)
	return d
}

// close waits for the command, but not for long.
func (d *desk) close(ctx context.Context) {
	if d == nil || d.queue == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, notifyGrace)
	defer cancel()
	d.queue.Close(ctx)
}

func (d *desk) add(n notify.News) {
	if d.queue != nil {
		d.queue.Add(n)
	} else {
		d.told(n, nil)
	}
}

// told remembers that news was told. The command had its chance even if it
// failed: trying again at each poll would only repeat that.
func (d *desk) told(n notify.News, err error) {
	if err != nil {
		d.note(fmt.Sprintf("the notify command could not tell that %s: %v", n, err))
	}
	if !n.Remember {
		return
	}
	if err := d.store.SaveTrouble(context.Background(), n.Summary.Account, n.Trouble); err != nil {
		d.note(fmt.Sprintf("cannot remember what was told of %s: %v", n.Summary.Account, err))
	}
}

// teller is a reporter that finds out what is news, and has a desk pass it on.
// If it is quiet, then urgent news is all that it reports.
type teller struct {
	serial
	to    reporter
	quiet bool
	watch *notify.Watch
	desk  *desk // nil in a dry run, of which nobody is told
}

// newTeller returns out as it is if nobody wants to know what is news. close
// ends it.
func newTeller(ctx context.Context, out reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, quiet, dry bool) (_ reporter, close func(), err error) {
	if !quiet && (cfg.Notify == nil || dry) {
		return out, func() {}, nil
	}
	t := &teller{to: out, quiet: quiet}
	if t.watch, err = notify.NewWatch(ctx, store, namesOf(accounts), time.Now); err != nil {
		return nil, nil, err
	}
	if !dry {
		t.desk = newDesk(ctx, store, cfg.Notify, accounts, out.note)
	}
	return t, func() { t.desk.close(ctx) }, nil
}

func namesOf(accounts []*fetch.Account) []string {
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = a.Name
	}
	return names
}

func (t *teller) observe(e fetch.Event) {
	if _, warned := e.(fetch.Warned); warned || !t.quiet {
		t.to.observe(e)
	}
	all := t.watch.See(e)
	if t.quiet {
		t.speak(e, all)
	}
	for _, n := range all {
		if t.desk != nil {
			t.desk.add(n)
		}
	}
}

// speak reports what is urgent: the refused messages, the recovery, and then
// the poll that all of it is about.
func (t *teller) speak(finished fetch.Event, all []notify.News) {
	t.do(func() {
		urgent := false
		for _, n := range all {
			urgent = urgent || n.Urgent()
			for _, refused := range n.Refused {
				t.to.observe(refused)
			}
			if n.Kind == notify.Recovered && n.Urgent() {
				t.to.note(fmt.Sprintf("%s does well again; it had failed for %s", n.Summary.Account, span(n.Summary.Ended.Sub(n.Since))))
			}
		}
		if urgent {
			t.to.observe(finished)
		}
	})
}

// note says nothing if quiet: who asked for that and pressed ^C knows.
func (t *teller) note(text string) {
	if !t.quiet {
		t.to.note(text)
	}
}

func (t *teller) total(all []fetch.Summary) {
	if !t.quiet {
		t.to.total(all)
	}
}
