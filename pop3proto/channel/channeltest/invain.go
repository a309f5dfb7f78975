package channeltest

import (
	"crypto/tls"
	"testing"
)

// InVain has a server with that certificate hang up as soon as TLS is there, on a client
// that connects twice, and fails the test if it is offered the same TLS session again.
// client returns what connects to addr, and must fail.
func InVain(t *testing.T, cert tls.Certificate, client func(addr string) (connect func() error)) {
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
			t.Fatal("it greeted")
		}
		if <-resumed {
			t.Error("the session was taken up again")
		}
	}
}
