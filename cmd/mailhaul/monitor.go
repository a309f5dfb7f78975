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
func (d *daemon) startMonitor(ctx context.Context) (stop func(), err error) {
	health := metrics.NewHealth(time.Now)
	d.monitor = newMonitor(d.store, d.out, health)
	if err := d.monitor.listen(d.cfg.Metrics); err != nil {
		d.monitor.close()
		return nil, err
	}
	ctx, unwatch := context.WithCancel(ctx)
	go d.serviceManager.Watch(ctx, health.Alive)
	return func() {
		d.monitor.close()
		unwatch()
	}, nil
}

// reportReady tells that the daemon polls by a configuration, after its start and
// after each reload, whether that was refused or not. The service manager comes
// last: when it hears that we are ready, we are.
func (d *daemon) reportReady() {
	d.monitor.applyConfig(d.cfg, d.accounts)
	d.serviceManager.Ready()
}

// onTurn is called at every turn of the scheduler: without it the daemon hangs.
func (d *daemon) onTurn(t fetch.Turn) {
	d.monitor.health.Turn()
	d.serviceManager.Status("%s, %d polling, %d failing", count(t.Accounts, "account"), t.Polling, t.Failing)
}

// observe is the fetch.Observer of all polls.
func (d *daemon) observe(e fetch.Event) {
	d.trace.observe(e)
	d.out.observe(e)
	d.monitor.observe(e)
}

// monitor keeps metrics and health, and serves them.
type monitor struct {
	store  *state.Store
	out    reporter
	health *metrics.Health

	mu       sync.Mutex
	metrics  *metrics.Metrics // nil until somebody may ask for them
	server   *metrics.Server
	addr     string // of the server, as configured
	file     *metrics.File
	filePath string // of the file

	// saveRequested says that the file is to be written, stopSaving that it soon will be for
	// the last time; savingDone is closed when it has been.
	saveRequested, stopSaving, savingDone chan struct{}
}

func newMonitor(store *state.Store, out reporter, health *metrics.Health) *monitor {
	m := &monitor{
		store: store, out: out, health: health, saveRequested: make(chan struct{}, 1), stopSaving: make(chan struct{}), savingDone: make(chan struct{}),
	}
	go m.saveLoop()
	return m
}

// applyConfig has the configuration that is in force measured, and its accounts.
func (m *monitor) applyConfig(cfg *config.Config, accounts []*fetch.Account) {
	success, err := lastSuccesses(context.Background(), m.store)
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
	if names := accountNames(cfg); m.metrics != nil {
		m.metrics.SetAccounts(names)
		for _, name := range names {
			m.metrics.SetSuccess(name, success[name])
		}
	}
	switch {
	case cfg.MetricsFile == "":
		m.file = nil
	case cfg.MetricsFile != m.filePath || m.file == nil:
		m.file = metrics.NewFile(cfg.MetricsFile, buildInfo(), accountNames(cfg), success)
	default:
		m.file.SetAccounts(accountNames(cfg), success)
	}
	m.filePath = cfg.MetricsFile
	m.requestSave()
}

// listen serves at addr, or not at all if it is empty. If that cannot be, whoever
// asks at the old address is still answered.
func (m *monitor) listen(addr string) error {
	if addr == m.addr {
		return nil
	}
	if addr == "" {
		m.closeServer()
		return nil
	}
	if m.metrics == nil {
		m.metrics = metrics.New(buildInfo())
		m.metrics.AddProcess()
	}
	old := m.addr
	err := m.replaceServer(addr)
	if errors.Is(err, syscall.EADDRINUSE) && m.server != nil && samePort(addr, m.server.Addr()) {
		m.closeServer() // perhaps it is we who have it: :9110 holds 127.0.0.1:9110
		if err = m.replaceServer(addr); err != nil {
			_ = m.replaceServer(old) // else the next reload tries again
		}
	}
	if err != nil {
		return &failure{fmt.Errorf("metrics: %w", err), exitRetry, "another program may have the address: metrics takes another one, or none"}
	}
	m.out.note(fmt.Sprintf("metrics are at http://%s/metrics, health at /healthz and /livez", m.server.Addr()))
	return nil
}

// replaceServer has a server at addr take the place of the one there is.
func (m *monitor) replaceServer(addr string) error {
	server, err := metrics.Listen(context.Background(), addr, m.metrics, m.health)
	if err != nil {
		return err
	}
	m.closeServer()
	m.server, m.addr = server, addr
	return nil
}

// closeServer closes the server, if there is one.
func (m *monitor) closeServer() {
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

func (m *monitor) observe(e fetch.Event) {
	m.health.Observe(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.metrics != nil {
		m.metrics.Observe(e)
	}
	if _, ok := e.(fetch.Finished); ok && m.file != nil {
		m.file.Observe(e)
		m.requestSave()
	}
}

// requestSave has the file written soon.
func (m *monitor) requestSave() {
	select {
	case m.saveRequested <- struct{}{}:
	default: // it will be
	}
}

// The file of thousands of accounts takes a while to be read, merged and written
// anew. After that comes a pause of so many times as long, up to maxSavePause:
// who collects it looks no more often.
const (
	savePauseFactor = 20
	maxSavePause    = 15 * time.Second
)

// saveLoop writes the file, away from the polls. The same trouble is told once.
func (m *monitor) saveLoop() {
	defer close(m.savingDone)
	told := ""
	for range m.saveRequested {
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
		case <-time.After(min(savePauseFactor*time.Since(began), maxSavePause)):
		case <-m.stopSaving:
		}
	}
}

// saveGrace is how long a fetch or a daemon that ends waits for the disk of
// metrics_file.
const saveGrace = 10 * time.Second

func (m *monitor) close() {
	close(m.stopSaving)
	m.requestSave()
	close(m.saveRequested)
	select {
	case <-m.savingDone:
	case <-time.After(saveGrace):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.listen("") // cannot fail
}
