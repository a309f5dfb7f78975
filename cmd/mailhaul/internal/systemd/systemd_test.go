package systemd_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/systemd"
)

// A manager that takes no message, since it has crashed or was stopped, holds up
// nobody; once it does, it hears how the daemon fares.
func TestManagerDoesNotListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd") // the name of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addr := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", addr.Name)

	m := &systemd.Manager{Timeout: time.Millisecond}
	for range 1000 { // more than any queue of the kernel holds
		m.Ready()
	}
	for i := range 1000 {
		m.Status("%d polling", i)
	}
	m.Stopping()

	buf, said := make([]byte, 4096), ""
	for i := 0; !strings.Contains(said, "at last"); i++ {
		m.Status("at last, for the %dth time", i) // it may have given up on those before
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		said = string(buf[:n])
	}
}
