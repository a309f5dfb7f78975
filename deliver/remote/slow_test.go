package remote_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/deliver/remote"
)

// pipe returns a connection with a Timeout of a minute, and the end of the peer.
func pipe(t *testing.T) (conn, far net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	s := &remote.Server{
		Addr: "example.org:25", Security: remote.PlainText, Timeout: time.Minute,
		Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil },
	}
	conn, err := s.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, far
}

// A read may last longer than Timeout while a write makes progress, and so may a write while
// the peer reads a little now and then. Without any progress, both end.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := pipe(t)
		read := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 1))
			read <- err
		}()
		const size = 100 << 10
		go func() {
			for left := size; left > 0; left -= 1000 {
				time.Sleep(14 * time.Second)
				_, _ = io.CopyN(io.Discard, far, int64(min(left, 1000)))
			}
		}()
		start := time.Now()
		if n, err := conn.Write(make([]byte, size)); n != size || err != nil {
			t.Fatalf("Write = %d, %v after %v", n, err, time.Since(start))
		}
		select {
		case err := <-read:
			t.Fatalf("Read = %v", err)
		default:
		}
		start = time.Now()
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("Read = %v after a silence of %v", err, time.Since(start))
		}
	})
}

// A deadline that the caller sets holds, even while data is transferred.
func TestDeadlineHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := pipe(t)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			time.Sleep(5 * time.Second)
			_, _ = conn.Write([]byte("x"))
		}()
		start := time.Now()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("Read = %v after %v", err, time.Since(start))
		}
	})
}
