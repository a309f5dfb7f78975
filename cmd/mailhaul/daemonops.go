package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// watch has those who want to know told how the daemon fares: who asks for
// figures, and the service manager, whose watchdog hears of us as long as the
// scheduler is alive.
func (d *daemon) watch(ctx context.Context) (stop func(), err error) {
	health := metrics.NewHealth(time.Now)
	d.measured = newMeasured(d.store, d.out, health)
	if err := d.measured.listen(d.cfg.Metrics); err != nil {
		d.measured.close()
		return nil, err
	}
	ctx, unwatch := context.WithCancel(ctx)
	go d.manager.Watch(ctx, health.Alive)
	return func() {
		d.measured.close()
		unwatch()
	}, nil
}

// ready tells that the daemon polls by a configuration, after its start and
// after each reload, whether that was refused or not. The service manager comes
// last: when it hears that we are ready, we are.
func (d *daemon) ready() {
	d.measured.ready(d.cfg, d.accounts)
	d.manager.Ready()
}

// turn is called at every turn of the scheduler: without it the daemon hangs.
func (d *daemon) turn(t fetch.Turn) {
	d.measured.health.Turn()
	d.manager.Status("%s, %d polling, %d failing", count(t.Accounts, "account"), t.Polling, t.Failing)
}

// observe is the fetch.Observer of all polls.
func (d *daemon) observe(e fetch.Event) {
	d.traced.observe(e)
	d.out.observe(e)
	d.measured.observe(e)
}

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

	// dirty says that the file is to be written, ending that it soon will be for
	// the last time; saved is closed when it has been.
	dirty, ending, saved chan struct{}
}

func newMeasured(store *state.Store, out reporter, health *metrics.Health) *measured {
	m := &measured{
		store: store, out: out, health: health, dirty: make(chan struct{}, 1), ending: make(chan struct{}), saved: make(chan struct{}),
	}
	go m.save()
	return m
}

// ready has the configuration that is in force measured, and its accounts.
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
	if names := accountNames(cfg); m.counts != nil {
		m.counts.SetAccounts(names)
		for _, name := range names {
			m.counts.SetSuccess(name, success[name])
		}
	}
	switch {
	case cfg.MetricsFile == "":
		m.file = nil
	case cfg.MetricsFile != m.path || m.file == nil:
		m.file = metrics.NewFile(cfg.MetricsFile, thisBuild(), accountNames(cfg), success)
	default:
		m.file.SetAccounts(accountNames(cfg), success)
	}
	m.path = cfg.MetricsFile
	m.touch()
}

// listen serves at addr, or not at all if it is empty. If that cannot be, whoever
// asks at the old address is still answered.
func (m *measured) listen(addr string) error {
	if addr == m.addr {
		return nil
	}
	if addr == "" {
		m.hangUp()
		return nil
	}
	if m.counts == nil {
		m.counts = metrics.New(thisBuild())
		m.counts.AddProcess()
	}
	old := m.addr
	err := m.serve(addr)
	if errors.Is(err, syscall.EADDRINUSE) && m.server != nil && samePort(addr, m.server.Addr()) {
		m.hangUp() // perhaps it is we who have it: :9110 holds 127.0.0.1:9110
		if err = m.serve(addr); err != nil {
			_ = m.serve(old) // else the next reload tries again
		}
	}
	if err != nil {
		return &failure{fmt.Errorf("metrics: %w", err), exitRetry, "another program may have the address: metrics takes another one, or none"}
	}
	m.out.note(fmt.Sprintf("metrics are at http://%s/metrics, health at /healthz and /livez", m.server.Addr()))
	return nil
}

// serve has a server at addr take the place of the one there is.
func (m *measured) serve(addr string) error {
	server, err := metrics.Listen(context.Background(), addr, m.counts, m.health)
	if err != nil {
		return err
	}
	m.hangUp()
	m.server, m.addr = server, addr
	return nil
}

// hangUp closes the server, if there is one.
func (m *measured) hangUp() {
	if m.server != nil {
		m.server.Close()
	}
	m.server, m.addr = nil, ""
}

// samePort reports whether two addresses, which are known to be some, have one
// port.
func samePort(a, b string) bool {
	_, p, _ := net.SplitHostPort(a)
	_, q, _ := net.SplitHostPort(b)
	return p == q
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

// The file of thousands of accounts takes a while to be read, merged and written
// anew. After that comes a pause of so many times as long, up to longestSavePause:
// who collects it looks no more often.
const (
	savePause        = 20
	longestSavePause = 15 * time.Second
)

// save writes the file, away from the polls. The same trouble is told once.
func (m *measured) save() {
	defer close(m.saved)
	told := ""
	for range m.dirty {
		m.mu.Lock()
		file := m.file
		m.mu.Unlock()
		text, began := "", time.Now()
		if file != nil {
			if err := file.Write(); err != nil {
				text = fmt.Sprintf("metrics_file: %v", err)
			}
		}
		if text != "" && text != told {
			m.out.warn(text)
		}
		told = text
		select {
		case <-time.After(min(savePause*time.Since(began), longestSavePause)):
		case <-m.ending:
		}
	}
}

// saveGrace is how long a fetch or a daemon that ends waits for the disk of
// metrics_file.
const saveGrace = 10 * time.Second

func (m *measured) close() {
	close(m.ending)
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
