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

// startMonitor starts the server of metrics and health, and feeds the watchdog of the
// service manager as long as the scheduler is alive.
func (d *daemon) startMonitor(ctx context.Context) (stop func(), err error) {
	health := metrics.NewHealth(time.Now)
	d.monitor = newMonitor(d.store, d.out, health)
	d.monitor.mu.Lock()
	err = d.monitor.listen(d.cfg.Metrics)
	d.monitor.mu.Unlock()
	if err != nil {
		d.monitor.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go d.serviceManager.Watch(ctx, health.Alive)
	return func() {
		d.monitor.close()
		cancel()
	}, nil
}

// reportReady tells the monitor and the service manager that the daemon polls, after its
// start and after each reload, even one that failed. The service manager comes last,
// since it may act on it at once.
func (d *daemon) reportReady() {
	d.monitor.applyConfig(d.cfg, d.accounts)
	d.serviceManager.Ready()
}

// onTurn notes a turn of the scheduler. Without turns the daemon counts as hanging.
func (d *daemon) onTurn(t fetch.RunStatus) {
	d.monitor.health.MarkAlive()
	d.serviceManager.Status("%s, %d polling, %d failing", count(t.Accounts, "account"), t.Polling, t.Failing)
}

// observe is the fetch.Observer of all polls.
func (d *daemon) observe(e fetch.Event) {
	d.trace.observe(e)
	d.out.observe(e)
	d.monitor.observe(e)
}

// monitor serves the metrics and the health of a daemon, and writes metrics_file.
type monitor struct {
	store  *state.Store
	out    reporter
	health *metrics.Health

	mu       sync.Mutex       // protects the fields below it
	metrics  *metrics.Metrics // nil until a server is configured
	server   *metrics.Server  // nil without one
	addr     string           // of the server, as configured
	file     *metrics.File    // nil without one
	filePath string

	saveRequested chan struct{} // has room for one request; closed to end saveLoop
	stopSaving    chan struct{} // closed to end the pause of saveLoop
	savingDone    chan struct{} // closed when saveLoop has ended
}

func newMonitor(store *state.Store, out reporter, health *metrics.Health) *monitor {
	m := &monitor{store: store, out: out, health: health}
	m.saveRequested, m.stopSaving, m.savingDone = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go m.saveLoop()
	return m
}

// applyConfig monitors the accounts of the configuration that comes into force.
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
	// Polls matter more than metrics: after the start, a failure to listen does not
	// end the daemon, and the next reload tries again.
	if err := m.listen(cfg.Metrics); err != nil {
		m.out.warn(err.Error())
	}
	names := accountNames(cfg)
	if m.metrics != nil {
		m.metrics.SetAccounts(names)
		for _, name := range names {
			m.metrics.SetSuccess(name, success[name])
		}
	}
	switch {
	case cfg.MetricsFile == "":
		m.file = nil
	case cfg.MetricsFile != m.filePath || m.file == nil:
		m.file = metrics.NewFile(cfg.MetricsFile, buildInfo(), names, success)
	default:
		m.file.SetAccounts(names, success)
	}
	m.filePath = cfg.MetricsFile
	m.requestSave()
}

// listen serves at addr, or closes the server if addr is empty. After an error the server
// at the old address goes on, if possible. The caller holds m.mu.
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
		m.closeServer() // our own :9110 may be what occupies 127.0.0.1:9110
		if err = m.replaceServer(addr); err != nil {
			_ = m.replaceServer(old) // if it fails, the next reload tries again
		}
	}
	if err != nil {
		return &failure{fmt.Errorf("metrics: %w", err), exitRetry, "another program may have the address: metrics takes another one, or none"}
	}
	m.out.note(fmt.Sprintf("metrics are at http://%s/metrics, health at /healthz and /livez", m.server.Addr()))
	return nil
}

// replaceServer starts a server at addr, and then closes the old one, if there is one.
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

// samePort reports whether two valid addresses have the same port.
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

// requestSave makes saveLoop write the file soon.
func (m *monitor) requestSave() {
	select {
	case m.saveRequested <- struct{}{}:
	default: // a request is pending already
	}
}

// To read, merge and rewrite the file takes a while with thousands of accounts. A pause
// of savePauseFactor times as long follows, up to maxSavePause: collectors do not read
// the file more often.
const (
	savePauseFactor = 20
	maxSavePause    = 15 * time.Second
)

// saveLoop writes the file whenever that is requested, so that no poll waits for its
// disk. It reports an error once, as long as the next ones are the same.
func (m *monitor) saveLoop() {
	defer close(m.savingDone)
	reported := ""
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
		if text != "" && text != reported {
			m.out.warn(text)
		}
		reported = text
		select {
		case <-time.After(min(savePauseFactor*time.Since(began), maxSavePause)):
		case <-m.stopSaving:
		}
	}
}

// saveGrace is how long a fetch or a daemon that ends waits for the disk of
// metrics_file.
const saveGrace = 10 * time.Second

// close saves the file a last time, waits for that up to saveGrace, and closes the server.
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
