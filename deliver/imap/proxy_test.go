package imap_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// hooks see each line before it is passed on. On false the line is dropped and
// the connection cut.
type hooks struct{ up, down func(line string) bool }

// proxy passes on what goes between clients and a server.
func proxy(t *testing.T, server string, h hooks) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			conn, err := net.Dial("tcp", server)
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(t.Context(), func() { client.Close(); conn.Close() })
			wg.Go(func() { relay(conn, client, h.up) })
			wg.Go(func() { relay(client, conn, h.down) })
		}
	})
	return l.Addr().String()
}

func relay(to, from net.Conn, see func(string) bool) {
	defer to.Close()
	defer from.Close()
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		if line != "" && see != nil && !see(line) {
			return
		}
		if _, werr := io.WriteString(to, line); err != nil || werr != nil {
			return
		}
	}
}
