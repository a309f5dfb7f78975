// Package systemd tells the service manager the state of a daemon (sd_notify(3)), if
// NOTIFY_SOCKET names one.
package systemd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager sends messages to the service manager, if there is one. Its methods may be
// called from several goroutines. Messages that cannot be sent are dropped.
type Manager struct {
	// Timeout bounds the wait for a manager that does not read; 0 is ten seconds, and
	// others are for tests.
	Timeout time.Duration

	mu           sync.Mutex
	status, sent string // the latest line, and the one last sent
	sending      bool   // whether sendStatus runs
}

// defaultTimeout is long enough for a manager that is re-executing itself.
const defaultTimeout = 10 * time.Second

// send sends a message, which may have several lines. daemon.SdNotify would wait for ever
// for a manager that does not read.
func (m *Manager) send(state string) {
	addr := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	if addr.Name == "" {
		return
	}
	conn, err := net.DialUnix(addr.Net, nil, addr)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(cmp.Or(m.Timeout, defaultTimeout)))
	_, _ = io.WriteString(conn, state)
}

// Ready tells that the daemon has started, or has finished Reloading.
func (m *Manager) Ready() { m.send(daemon.SdNotifyReady) }

// Reloading tells that the configuration is being read. By the timestamp the manager
// knows which of its signals it answers (Type=notify-reload).
func (m *Manager) Reloading() {
	m.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping tells that the daemon is about to end.
func (m *Manager) Stopping() { m.send(daemon.SdNotifyStopping) }

// Status sets the line that `systemctl status` shows. It does not wait for the manager:
// a goroutine sends the latest line, unless the manager has it.
func (m *Manager) Status(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = fmt.Sprintf(format, args...)
	if m.status != m.sent && !m.sending {
		m.sending = true
		go m.sendStatus()
	}
}

// sendStatus sends status until there is no newer one.
func (m *Manager) sendStatus() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.status != m.sent {
		m.sent = m.status
		s := "STATUS=" + m.sent
		m.mu.Unlock()
		m.send(s)
		m.mu.Lock()
	}
	m.sending = false
}

// Watch pings the manager's watchdog as long as alive returns true, until ctx ends. It
// returns at once if the manager has no watchdog.
func (m *Manager) Watch(ctx context.Context, alive func() bool) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if alive() {
			m.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
