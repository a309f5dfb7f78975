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

// manager listens as a service manager does, and returns what receives the
// next message.
func manager(t *testing.T) func() string {
	t.Helper()
	// Not t.TempDir: the name of a socket is short.
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
	var m systemd.Manager
	m.Ready()
	m.Reloading()
	m.Status("%d accounts", 2)
	m.Status("2 accounts") // no news
	m.Status("3 accounts")
	m.Stopping()
	monotonic := ""
	if runtime.GOOS == "linux" {
		monotonic = `MONOTONIC_USEC=[1-9]\d*\n`
	}
	for _, want := range []string{"READY=1", "RELOADING=1\n" + monotonic, "STATUS=2 accounts", "STATUS=3 accounts", "STOPPING=1"} {
		if got := next(); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The watchdog hears of us only while we are alive.
func TestWatchdog(t *testing.T) {
	next := manager(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var m systemd.Manager
	asked := 0
	m.Watch(ctx, func() bool {
		asked++
		if asked == 10 {
			cancel()
		}
		return asked <= 3
	})
	m.Stopping() // what comes after all that was sent
	got := []string{next(), next(), next(), next()}
	if strings.Join(got, " ") != "WATCHDOG=1 WATCHDOG=1 WATCHDOG=1 STOPPING=1" {
		t.Error(got)
	}
}

// Where nobody listens, nothing happens.
func TestNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var m systemd.Manager
	m.Ready()
	m.Watch(t.Context(), func() bool { t.Error("asked"); return true })
}
