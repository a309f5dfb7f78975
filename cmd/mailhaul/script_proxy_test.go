package main

import (
	"io"
	"net"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailhaul/mailhaul/pop3proto/channel/channeltest"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// connect HOST PORT is a program for a tunnel: it connects its standard input and output
// to a port.
func connect() {
	conn, err := net.Dial("tcp", net.JoinHostPort(os.Args[1], os.Args[2]))
	if err != nil {
		os.Exit(1)
	}
	go func() { _, _ = io.Copy(conn, os.Stdin) }()
	_, _ = io.Copy(os.Stdout, conn)
}

// proxies is the key of a script's proxies, by name.
type proxies struct{}

// startProxy is proxy NAME [USER]: it starts a SOCKS5 proxy at $NAME, to which every host
// is this machine. With USER it wants a login with $PASSWORD.
func startProxy(ts *testscript.TestScript, _ bool, args []string) {
	p := &channeltest.SOCKS{Dial: func(network, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return net.Dial(network, net.JoinHostPort("127.0.0.1", port))
	}}
	if len(args) > 1 {
		p.User, p.Password = args[1], password
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.Serve(conn)
		}
	}()
	ts.Setenv(args[0], l.Addr().String())
	ts.Value(proxies{}).(map[string]*channeltest.SOCKS)[args[0]] = p
}

// proxied PROXY ADDR checks that a proxy was asked to connect to ADDR.
func proxied(ts *testscript.TestScript, _ bool, args []string) {
	if asked := ts.Value(proxies{}).(map[string]*channeltest.SOCKS)[args[0]].Requests(); !slices.Contains(asked, args[1]) {
		ts.Fatalf("%s was asked for %q", args[0], asked)
	}
}

// makeCertificate is clientcert USER: it writes a client certificate and its key to
// USER.crt.
func makeCertificate(ts *testscript.TestScript, _ bool, args []string) {
	cert, ca, err := pop3test.SelfSigned(args[0])
	ts.Check(err)
	key, err := pop3test.KeyPEM(cert)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), append(ca, key...), 0o600))
}
