package metrics_test

import (
	"bytes"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/metrics"
)

// A server that cannot accept a connection, for lack of file descriptors, writes nothing
// to the log of the daemon, which may be JSON.
func TestServerLogsNothing(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	defer log.SetOutput(os.Stderr)
	s, err := metrics.Listen(t.Context(), "127.0.0.1:0", metrics.New(build), metrics.NewHealth(time.Now))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Addr())
	to := syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	to.Port, _ = strconv.Atoi(port)
	client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(client)

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 3 // standard input, output and error are open
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err = syscall.Connect(client, &to)
	for err == nil && !isServerSleeping() {
		runtime.Gosched()
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	s.Close() // and writes no more
	if err != nil || logged.Len() > 0 {
		t.Errorf("%v; the log says %q", err, logged.String())
	}
}

// isServerSleeping reports whether a server sleeps before it tries again to accept.
func isServerSleeping() bool {
	text := make([]byte, 1<<20)
	for goroutine := range strings.SplitSeq(string(text[:runtime.Stack(text, true)]), "\n\n") {
		head, calls, _ := strings.Cut(goroutine, "\n")
		if strings.Contains(head, "[sleep") && strings.Contains(calls, "net/http.(*Server).Serve(") {
			return true
		}
	}
	return false
}
