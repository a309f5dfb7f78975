package main

import (
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
)

// watcher is told how a daemon fares, to pass it on: to a service manager, to
// who asks for figures. All methods return quickly. observe and turn are
// called from other goroutines than the rest.
type watcher interface {
	// ready tells that the daemon polls by a configuration, after its start
	// and after each reload, whether that was refused or not.
	ready(*config.Config, []*fetch.Account)
	// reloading tells that the configuration is being read again.
	reloading()
	// stopping tells that the daemon is about to end.
	stopping()
	// turn tells how it goes, at every turn of the scheduler and each 15
	// seconds at least: without it the daemon hangs.
	turn(fetch.Turn)
	// observe is a fetch.Observer.
	observe(fetch.Event)
}

func (d *daemon) tell(what func(watcher)) {
	for _, w := range d.watchers {
		what(w)
	}
}

func (d *daemon) turn(t fetch.Turn) { d.tell(func(w watcher) { w.turn(t) }) }

// observe is the fetch.Observer of all polls.
func (d *daemon) observe(e fetch.Event) {
	d.traced.observe(e)
	d.out.observe(e)
	d.tell(func(w watcher) { w.observe(e) })
}
