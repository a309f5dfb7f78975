// Package systemd tells the service manager how a daemon fares (sd_notify(3)),
// if there is one that wants to know.
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

// Manager is the service manager, or nobody. Its methods may be called from
// several goroutines. That a message does not reach it is no error of ours: it
// will think of us what it must.
type Manager struct {
	// Timeout bounds the wait for a manager that takes no message; 0 is ten seconds.
	Timeout time.Duration

	mu           sync.Mutex
	status, sent string // what it is to be told, and was
	sending      bool
}

// defaultTimeout is long enough for a manager that is being replaced.
const defaultTimeout = 10 * time.Second

// send sends a message of lines. daemon.SdNotify would wait for ever for a manager
// that has stopped to read what it is told.
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

// Ready says that the daemon works, or works again after Reloading.
func (m *Manager) Ready() { m.send(daemon.SdNotifyReady) }

// Reloading says that the configuration is being read. The time tells the
// manager which of its signals this is the answer to (Type=notify-reload).
func (m *Manager) Reloading() {
	m.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the daemon is about to end.
func (m *Manager) Stopping() { m.send(daemon.SdNotifyStopping) }

// Status is a line for `systemctl status`. The same one again is not sent, nor one
// that has gone out of date by the time it could be. It waits for nobody.
func (m *Manager) Status(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = fmt.Sprintf(format, args...)
	if m.status != m.sent && !m.sending {
		m.sending = true
		go m.sendStatus()
	}
}

// sendStatus sends the status until it is the one that was sent.
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

// Watch keeps the manager's watchdog quiet while alive says so, until ctx
// ends. It returns at once if the manager has none.
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
