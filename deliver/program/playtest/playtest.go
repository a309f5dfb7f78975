// Package playtest lets a test binary play the programs that its tests run, so
// that nothing of the machine is needed.
package playtest

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Main is all of a TestMain. The test binary runs its tests or, called by the
// command line of a role, plays that and ends with the code that play returns.
func Main(m *testing.M, play func(role string, args []string) int) {
	if len(os.Args) > 2 && os.Args[1] == "play" {
		// os.Exit would have the race detector wait for a second.
		syscall.Exit(play(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// Listen returns where roles report, until the test ends: at a socket whose path is
// short enough for one.
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

// Argv is the command line of a role.
func Argv(role string, args ...string) []string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return append([]string{self, "play", role}, args...)
}
