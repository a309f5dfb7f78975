package main

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/notify"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/systemd"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// watch has all who want to know told how the daemon fares. The service
// manager comes last: when it hears that we are ready, we are.
func (d *daemon) watch(ctx context.Context) (stop func()) {
	health := metrics.NewHealth(time.Now)
	m := newMeasured(d.store, d.out.note, health)
	i := &informed{store: d.store, note: d.out.note}
	s, unwatch := newManaged(ctx, health)
	d.watchers = []watcher{m, i, s}
	return func() {
		i.close(ctx)
		m.close()
		unwatch()
	}
}

// measured keeps metrics and health, and serves them.
type measured struct {
	store  *state.Store
	note   func(string)
	health *metrics.Health

	mu     sync.Mutex
	counts *metrics.Metrics // nil until somebody may ask for them
	server *metrics.Server
	addr   string // of the server, as configured
	file   *metrics.File
	path   string        // of the file
	polls  []fetch.Event // that the file has not been told of: its disk may hang

	// dirty says that the file is to be written; saved is closed when it has
	// been for the last time.
	dirty chan struct{}
	saved chan struct{}
}

func newMeasured(store *state.Store, note func(string), health *metrics.Health) *measured {
	m := &measured{store: store, note: note, health: health, dirty: make(chan struct{}, 1), saved: make(chan struct{})}
	go m.save()
	return m
}

func (m *measured) ready(cfg *config.Config, accounts []*fetch.Account) {
	success, err := successes(context.Background(), m.store)
	if err != nil {
		m.note(fmt.Sprintf("metrics: %v", err))
	}
	every := map[string]time.Duration{}
	for _, a := range accounts {
		every[a.Name] = cmp.Or(a.Every, fetch.DefaultEvery)
	}
	m.health.SetAccounts(every, success)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listen(cfg.Metrics)
	if names := namesOf(accounts); m.counts != nil {
		m.counts.SetAccounts(names)
		for _, name := range names {
			m.counts.SetSuccess(name, success[name])
		}
	}
	switch {
	case cfg.MetricsFile == "":
		m.file = nil
	case cfg.MetricsFile != m.path || m.file == nil:
		m.file = metrics.NewFile(cfg.MetricsFile, thisBuild(), namesOf(accounts), success)
	default:
		m.file.SetAccounts(namesOf(accounts))
	}
	m.path = cfg.MetricsFile
	m.touch()
}

// listen serves at addr, or not at all if it is empty. Mail is worth more than
// figures: an address that cannot be had ends nothing, and is tried again by
// the next reload.
func (m *measured) listen(addr string) {
	if addr == m.addr {
		return
	}
	if m.server != nil {
		m.server.Close()
	}
	m.server, m.addr = nil, ""
	if addr == "" {
		return
	}
	if m.counts == nil {
		m.counts = metrics.New(thisBuild())
		m.counts.AddProcess()
	}
	server, err := metrics.Listen(context.Background(), addr, m.counts, m.health)
	if err != nil {
		m.note(fmt.Sprintf("metrics: %v", err))
		return
	}
	m.server, m.addr = server, addr
	m.note(fmt.Sprintf("metrics are at http://%s/metrics, health at /healthz", server.Addr()))
}

func (m *measured) observe(e fetch.Event) {
	m.health.Observe(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts != nil {
		m.counts.Observe(e)
	}
	if _, ok := e.(fetch.Finished); ok && m.file != nil {
		m.polls = append(m.polls, e)
		m.touch()
	}
}

// touch has the file written soon.
func (m *measured) touch() {
	select {
	case m.dirty <- struct{}{}:
	default: // it will be
	}
}

// save writes the file, away from the polls. The same trouble is told once.
func (m *measured) save() {
	defer close(m.saved)
	told := ""
	for range m.dirty {
		m.mu.Lock()
		file, polls := m.file, m.polls
		m.polls = nil
		m.mu.Unlock()
		text := ""
		if file != nil {
			for _, e := range polls {
				file.Observe(e)
			}
			if err := file.Write(); err != nil {
				text = fmt.Sprintf("metrics_file: %v", err)
			}
		}
		if text != "" && text != told {
			m.note(text)
		}
		told = text
	}
}

func (m *measured) close() {
	m.touch()
	close(m.dirty)
	<-m.saved
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listen("")
}

func (m *measured) turn(fetch.Turn) { m.health.Turn() }
func (m *measured) reloading()      {}
func (m *measured) stopping()       {}

// informed has the notify command told what is news.
type informed struct {
	store *state.Store
	note  func(string)

	mu    sync.Mutex
	watch *notify.Watch
	desk  *desk // nil without a command
}

func (i *informed) ready(cfg *config.Config, accounts []*fetch.Account) {
	i.mu.Lock()
	defer i.mu.Unlock()
	go i.desk.close(context.Background()) // it may still have something to tell
	i.desk = nil
	if cfg.Notify == nil {
		i.watch = nil
		return
	}
	if i.watch == nil {
		var err error
		if i.watch, err = notify.NewWatch(context.Background(), i.store, namesOf(accounts), time.Now); err != nil {
			i.note(fmt.Sprintf("notify: %v", err))
			return
		}
	}
	i.desk = newDesk(context.Background(), i.store, cfg.Notify, accounts, i.note)
}

func (i *informed) observe(e fetch.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.desk == nil {
		return
	}
	for _, n := range i.watch.See(e) {
		i.desk.add(n)
	}
}

func (i *informed) close(ctx context.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.desk.close(ctx)
}

func (i *informed) turn(fetch.Turn) {}
func (i *informed) reloading()      {}
func (i *informed) stopping()       {}

// managed tells the service manager. Its watchdog hears of us as long as the
// scheduler is alive.
type managed struct{ systemd.Manager }

func newManaged(ctx context.Context, health *metrics.Health) (_ *managed, stop func()) {
	m := new(managed)
	ctx, cancel := context.WithCancel(ctx)
	go m.Watch(ctx, health.Alive)
	return m, cancel
}

func (m *managed) ready(*config.Config, []*fetch.Account) { m.Ready() }
func (m *managed) reloading()                             { m.Reloading() }
func (m *managed) stopping()                              { m.Stopping() }
func (m *managed) observe(fetch.Event)                    {}

func (m *managed) turn(t fetch.Turn) {
	m.Status("%s, %d polling, %d failing", count(t.Accounts, "account"), t.Polling, t.Failing)
}
