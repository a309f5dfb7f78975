package main

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/systemd"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// watch has all who want to know told how the daemon fares. The service
// manager comes last: when it hears that we are ready, we are.
func (d *daemon) watch(ctx context.Context) (stop func(), err error) {
	health := metrics.NewHealth(time.Now)
	m := newMeasured(d.store, d.out, health)
	if err := m.listen(d.cfg.Metrics); err != nil {
		m.close()
		return nil, err
	}
	s, unwatch := newManaged(ctx, health)
	d.watchers = []watcher{m, s}
	return func() {
		m.close()
		unwatch()
	}, nil
}

// listenError is an address for metrics that cannot be had.
type listenError struct{ error }

// measured keeps metrics and health, and serves them.
type measured struct {
	store  *state.Store
	out    reporter
	health *metrics.Health

	mu     sync.Mutex
	counts *metrics.Metrics // nil until somebody may ask for them
	server *metrics.Server
	addr   string // of the server, as configured
	file   *metrics.File
	path   string // of the file

	// dirty says that the file is to be written; saved is closed when it has
	// been for the last time.
	dirty chan struct{}
	saved chan struct{}
}

func newMeasured(store *state.Store, out reporter, health *metrics.Health) *measured {
	m := &measured{store: store, out: out, health: health, dirty: make(chan struct{}, 1), saved: make(chan struct{})}
	go m.save()
	return m
}

func (m *measured) ready(cfg *config.Config, accounts []*fetch.Account) {
	success, err := successes(context.Background(), m.store)
	if err != nil {
		m.out.warn(fmt.Sprintf("metrics: %v", err))
	}
	every := map[string]time.Duration{}
	for _, a := range accounts {
		every[a.Name] = cmp.Or(a.Every, fetch.DefaultEvery)
	}
	m.health.SetAccounts(every, success)
	m.mu.Lock()
	defer m.mu.Unlock()
	// Mail is worth more than figures: by now an address that cannot be had
	// ends nothing, and the next reload tries it again.
	if err := m.listen(cfg.Metrics); err != nil {
		m.out.warn(err.Error())
	}
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

// listen serves at addr, or not at all if it is empty. The error is a
// *listenError.
func (m *measured) listen(addr string) error {
	if addr == m.addr {
		return nil
	}
	if m.server != nil {
		m.server.Close()
	}
	m.server, m.addr = nil, ""
	if addr == "" {
		return nil
	}
	if m.counts == nil {
		m.counts = metrics.New(thisBuild())
		m.counts.AddProcess()
	}
	server, err := metrics.Listen(context.Background(), addr, m.counts, m.health)
	if err != nil {
		return &listenError{fmt.Errorf("metrics: %w", err)}
	}
	m.server, m.addr = server, addr
	m.out.note(fmt.Sprintf("metrics are at http://%s/metrics, health at /healthz", server.Addr()))
	return nil
}

func (m *measured) observe(e fetch.Event) {
	m.health.Observe(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts != nil {
		m.counts.Observe(e)
	}
	if _, ok := e.(fetch.Finished); ok && m.file != nil {
		m.file.Observe(e)
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
		file := m.file
		m.mu.Unlock()
		text := ""
		if file != nil {
			if err := file.Write(); err != nil {
				text = fmt.Sprintf("metrics_file: %v", err)
			}
		}
		if text != "" && text != told {
			m.out.warn(text)
		}
		told = text
	}
}

// saveGrace is how long a daemon that ends waits for the disk of metrics_file.
const saveGrace = 10 * time.Second

func (m *measured) close() {
	m.touch()
	close(m.dirty)
	select {
	case <-m.saved:
	case <-time.After(saveGrace):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.listen("") // cannot fail
}

func (m *measured) turn(fetch.Turn) { m.health.Turn() }
func (m *measured) reloading()      {}
func (m *measured) stopping()       {}

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
