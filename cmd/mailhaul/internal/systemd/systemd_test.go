package systemd_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/systemd"
)

// listen listens on NOTIFY_SOCKET, as a service manager does.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	// t.TempDir may be too long for the path of a socket.
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", addr)
	return conn
}

// manager returns a function that receives the next message.
func manager(t *testing.T) func() string {
	t.Helper()
	conn := listen(t)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestMessages(t *testing.T) {
	next := manager(t)
	monotonic := ""
	if runtime.GOOS == "linux" {
		monotonic = `MONOTONIC_USEC=[1-9]\d*\n`
	}
	var m systemd.Manager
	for _, test := range []struct {
		send func()
		want string
	}{
		{m.Ready, "READY=1"},
		{m.Reloading, "RELOADING=1\n" + monotonic},
		{func() { m.Status("%d accounts", 2) }, "STATUS=2 accounts"},
		{func() {
			m.Status("2 accounts") // not sent: it is the same
			m.Status("3 accounts")
		}, "STATUS=3 accounts"},
		{m.Stopping, "STOPPING=1"},
	} {
		test.send()
		if got := next(); !regexp.MustCompile("^" + test.want + "$").MatchString(got) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Watch pings the watchdog only while alive returns true.
func TestWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var m systemd.Manager
	calls := 0
	m.Watch(ctx, func() bool {
		calls++
		if calls == 10 {
			cancel()
		}
		return calls <= 3
	})
	m.Stopping() // comes after all pings
	got := []string{next(), next(), next(), next()}
	if strings.Join(got, " ") != "WATCHDOG=1 WATCHDOG=1 WATCHDOG=1 STOPPING=1" {
		t.Error(got)
	}
}

// Without a service manager nothing is sent.
func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var m systemd.Manager
	m.Ready()
	m.Watch(t.Context(), func() bool { t.Error("alive was called"); return true })
}

// A manager that does not read, since it has crashed or was stopped, holds up nothing.
// Once it reads, it gets the latest status.
func TestManagerDoesNotRead(t *testing.T) {
	conn := listen(t)
	m := &systemd.Manager{Timeout: time.Millisecond}
	for range 1000 { // more than the queue of the kernel holds
		m.Ready()
	}
	for i := range 1000 {
		m.Status("%d polling", i)
	}
	m.Stopping()

	buf, received := make([]byte, 4096), ""
	for i := 0; !strings.Contains(received, "at last"); i++ {
		m.Status("at last, for the %dth time", i) // those before may have been dropped
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		received = string(buf[:n])
	}
}
