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

// teller is a reporter that finds out what is news, passes it on to the notify
// command, and remembers that somebody was told of it. If it is quiet, then
// urgent news is all that it reports.
type teller struct {
	serial
	to    reporter
	quiet bool
	dry   bool // tell, but remember nothing and run nothing
	watch *notify.Watch
	store *state.Store
	queue *notify.Queue // nil without a notify command
}

// notifyGrace is how long a run that has ended waits for the notify command.
const notifyGrace = time.Minute

// newTeller returns out as it is if nobody wants to know what is news. Close
// ends it.
func newTeller(ctx context.Context, out reporter, store *state.Store, cfg *config.Config, accounts []*fetch.Account, quiet, dry bool) (_ reporter, close func(), err error) {
	if !quiet && (cfg.Notify == nil || dry) {
		return out, func() {}, nil
	}
	servers := map[string]string{}
	var names []string
	for _, a := range accounts {
		names = append(names, a.Name)
		servers[a.Name] = a.Server.Addr()
	}
	t := &teller{to: out, quiet: quiet, dry: dry, store: store}
	if t.watch, err = notify.NewWatch(ctx, store, names, time.Now); err != nil {
		return nil, nil, err
	}
	if cfg.Notify == nil || dry {
		return t, func() {}, nil
	}
	command := notify.Command{Argv: cfg.Notify, Server: func(account string) string { return servers[account] }}
	t.queue = notify.NewQueue(ctx, command.Run, t.told)
	return t, func() {
		grace, cancel := context.WithTimeout(ctx, notifyGrace)
		defer cancel()
		t.queue.Close(grace)
	}, nil
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
		switch {
		case t.dry:
		case t.queue != nil:
			t.queue.Add(n)
		default:
			t.told(n, nil)
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

// told remembers that news was told. The command had its chance even if it
// failed: trying again at each poll would only repeat that.
func (t *teller) told(n notify.News, err error) {
	if err != nil {
		t.to.note(fmt.Sprintf("the notify command could not tell that %s: %v", n, err))
	}
	if !n.Remember {
		return
	}
	if err := t.store.SaveTrouble(context.Background(), n.Summary.Account, n.Trouble); err != nil {
		t.to.note(fmt.Sprintf("cannot remember what was told of %s: %v", n.Summary.Account, err))
	}
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
