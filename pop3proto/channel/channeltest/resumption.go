package channeltest

import (
	"crypto/tls"
	"testing"
)

// CheckNotResumed runs a server that hangs up after each TLS handshake, and fails the test
// if the second of two connections resumes the session of the first. client returns a
// function that connects to addr, which must return an error.
func CheckNotResumed(t *testing.T, cert tls.Certificate, client func(addr string) (connect func() error)) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	resumed := make(chan bool, 2)
	go func() {
		for range cap(resumed) {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			resumed <- conn.(*tls.Conn).ConnectionState().DidResume
			conn.Close()
		}
	}()
	connect := client(l.Addr().String())
	for range cap(resumed) {
		if err := connect(); err == nil {
			t.Fatal("connected to a server that hangs up")
		}
		if <-resumed {
			t.Error("the session was resumed")
		}
	}
}
