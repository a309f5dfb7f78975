// Package systemd tells the service manager how a daemon fares (sd_notify(3)),
// if there is one that wants to know.
package systemd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is the service manager, or nobody. Its methods may be called from
// several goroutines. That a message does not reach it is no error of ours: it
// will think of us what it must.
type Manager struct {
	mu     sync.Mutex
	status string
}

// send sends a message of lines.
func (m *Manager) send(state string) { _, _ = daemon.SdNotify(false, state) }

// Ready says that the daemon works, or works again after Reloading.
func (m *Manager) Ready() { m.send(daemon.SdNotifyReady) }

// Reloading says that the configuration is being read. The time tells the
// manager which of its signals this is the answer to (Type=notify-reload).
func (m *Manager) Reloading() {
	m.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the daemon is about to end.
func (m *Manager) Stopping() { m.send(daemon.SdNotifyStopping) }

// Status is a line for `systemctl status`. The same one again is not sent.
func (m *Manager) Status(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := fmt.Sprintf(format, args...); s != m.status {
		m.status = s
		m.send("STATUS=" + s)
	}
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
