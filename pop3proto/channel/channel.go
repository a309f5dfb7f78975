// Package channel opens connections to mail servers, for accounts and sinks alike:
// directly, through a SOCKS5 proxy or through a program, with TLS or without.
//
// A [Via] says how the server is reached, and its DialContext opens the connection.
// A [Trust] says which server is the right one, and its Config returns the TLS
// configuration with which [Secure] does the handshake. [Sessions] keeps TLS sessions,
// in memory and in a folder, to resume them. [Advise] returns what the user can do
// about any error of these.
//
// Via is in channel.go, with proxy.go and tunnel.go; Trust in trust.go, with pin.go;
// Sessions in sessions.go; and Advise in advise.go.
package channel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Via says how a server is reached. The zero Via dials it directly, racing IPv6
// against IPv4 (RFC 8305).
type Via struct {
	// Source, if valid, is the local address to connect from. Only server addresses
	// of its family are then tried.
	Source netip.Addr
	// Proxy, if not nil, connects to the server, whose name it resolves itself.
	Proxy *Proxy
	// Tunnel, if not nil, is a program and its arguments, in which {host} and
	// {port} are replaced. Its standard input and output are the connection.
	Tunnel []string
	// Env is the tunnel's environment; nil means that of this process.
	Env []string
}

// String describes the proxy or tunnel, or returns "" if there is none.
func (v Via) String() string {
	switch {
	case v.Tunnel != nil:
		return "the tunnel " + v.Tunnel[0]
	case v.Proxy != nil:
		return "the SOCKS5 proxy " + v.Proxy.Addr
	default:
		return ""
	}
}

// Way returns a key for v, or "" for the zero Via. By different ways, the same address
// may lead to different servers. The key is a hash, since a tunnel's arguments may be
// secret.
func (v Via) Way() string {
	if v.Tunnel == nil && v.Proxy == nil && !v.Source.IsValid() {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", v, v.Tunnel, v.Source))
	return hex.EncodeToString(sum[:8])
}

// DialContext opens a connection to a host and port, or to a UNIX socket. If ctx ends
// first, the error is its cause. Other errors are a *ProxyError, a *TunnelError, or
// those of package net.
func (v Via) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch {
	case network == "unix":
		return v.dialDirect(ctx, network, addr)
	case v.Tunnel != nil:
		return openTunnel(v.Tunnel, v.Env, addr)
	case v.Proxy != nil:
		return v.Proxy.dial(ctx, v.dialDirect, addr)
	default:
		return v.dialDirect(ctx, network, addr)
	}
}

// dialDirect connects without proxy or tunnel.
func (v Via) dialDirect(ctx context.Context, network, addr string) (net.Conn, error) {
	d := new(net.Dialer)
	if v.Source.IsValid() && network != "unix" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.Source, 0))
	}
	conn, err := d.DialContext(ctx, network, addr)
	return conn, contextCause(ctx, err)
}

// Secure does a TLS handshake over conn, which it closes if that fails. If ctx ends
// first, the error is its cause.
func Secure(ctx context.Context, conn net.Conn, c *tls.Config) (net.Conn, error) {
	tlsConn := tls.Client(conn, c)
	if err := NotResumed(c, contextCause(ctx, tlsConn.HandshakeContext(ctx))); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tlsConn, nil
}

// Within returns a context that ends after d, with a Silence as its cause.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, Silence(d))
}

// Silence is the error of a server that did not reply for that long.
type Silence time.Duration

// Error tells how long.
func (d Silence) Error() string { return fmt.Sprintf("no answer for %v", time.Duration(d)) }

// Timeout returns true. With Temporary, it makes Silence a net.Error.
func (d Silence) Timeout() bool { return true }

// Temporary returns true: the server may reply next time.
func (d Silence) Temporary() bool { return true }

// Is makes Silence match os.ErrDeadlineExceeded.
func (d Silence) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// contextCause returns the cause of ctx instead of err if ctx has ended.
func contextCause(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// A connection's deadline that was taken from ctx may expire just before ctx
	// does.
	if end, ok := ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
