// Package playtest makes a test binary act as the programs that its tests run, such as a
// delivery agent, so that the tests need no program of the machine. Each such program is a
// role, which has a name.
package playtest

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Main is called by TestMain. It runs the tests, or, if the test binary was started with the
// command line that Argv returns, calls play and exits with the code that play returns.
func Main(m *testing.M, play func(role string, args []string) int) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		// With os.Exit, the race detector would wait for a second.
		syscall.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// Listen returns a listener on a UNIX socket, to which roles can report. It is closed when
// the test ends. It is not in t.TempDir, whose path may be too long for a socket.
func Listen(t *testing.T) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "play-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Argv returns the command line that starts the test binary in a role.
func Argv(role string, args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{self, "play", role}, args...)
}
