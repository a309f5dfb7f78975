package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"
)

// page LOG PATH STATUS gets a page from the daemon that has written its address to the
// file LOG, and prints it.
func page(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`http://([^/ ]+)/metrics`).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("no address in %s", args[0])
	}
	resp, err := http.Get("http://" + m[1] + args[1])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s", body)
	if got := fmt.Sprint(resp.StatusCode); got != args[2] {
		ts.Fatalf("status %s, want %s", got, args[2])
	}
}

// manager FILE listens as a service manager does, and writes each message that it gets to
// a line of FILE.
func manager(ts *testscript.TestScript, _ bool, args []string) {
	dir, err := os.MkdirTemp("", "sd") // the name of a socket is short
	ts.Check(err)
	addr := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("NOTIFY_SOCKET", addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			fmt.Fprintf(f, "%q\n", buf[:n])
		}
	}()
	ts.Defer(func() {
		conn.Close()
		<-done
		f.Close()
		os.RemoveAll(dir)
	})
}
