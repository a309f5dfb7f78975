// Package channel is the way to a mail server, for accounts and sinks alike:
// straight, by a SOCKS5 proxy or by a program, and the proof that the server
// at its end is the right one.
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

// Via says how a server is reached. The zero Via dials it, IPv6 and IPv4 in a
// race (RFC 8305).
type Via struct {
	// Source is the local address to connect from, if it is valid. Only
	// addresses of its family are then tried.
	Source netip.Addr
	// Proxy, if not nil, is asked to connect to the server, whose name it
	// looks up itself.
	Proxy *Proxy
	// Tunnel, if not nil, is a program and its arguments, in which {host} and
	// {port} are filled in. Its standard input and output are the connection.
	Tunnel []string
	// Env is the tunnel's environment; nil is ours.
	Env []string
}

// String names what lies between us and the server, "" if nothing does.
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

// Way tells v from other ways to the same address, at the end of which may be another
// server; "" is straight. It says nothing else: arguments of a tunnel may be secret.
func (v Via) Way() string {
	if v.Tunnel == nil && v.Proxy == nil && !v.Source.IsValid() {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", v, v.Tunnel, v.Source))
	return hex.EncodeToString(sum[:8])
}

// DialContext opens a connection, to a host and port or to a UNIX socket. If
// ctx ends first the error is its cause. Others are a *ProxyError, a
// *TunnelError, or those of package net.
func (v Via) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch {
	case network == "unix":
		return v.straight(ctx, network, addr)
	case v.Tunnel != nil:
		return openTunnel(v.Tunnel, v.Env, addr)
	case v.Proxy != nil:
		return v.Proxy.dial(ctx, v.straight, addr)
	default:
		return v.straight(ctx, network, addr)
	}
}

// straight connects without anything in between.
func (v Via) straight(ctx context.Context, network, addr string) (net.Conn, error) {
	d := new(net.Dialer)
	if v.Source.IsValid() && network != "unix" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.Source, 0))
	}
	conn, err := d.DialContext(ctx, network, addr)
	return conn, causeOf(ctx, err)
}

// Secure does a TLS handshake over conn, which it closes if that fails. If ctx
// ends first the error is its cause.
func Secure(ctx context.Context, conn net.Conn, c *tls.Config) (net.Conn, error) {
	tc := tls.Client(conn, c)
	if err := NotResumed(c, causeOf(ctx, tc.HandshakeContext(ctx))); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tc, nil
}

// Within bounds the wait for a server: the context's cause is then a Silence.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, Silence(d))
}

// Silence is the error of a peer that lets us wait for too long.
type Silence time.Duration

// Error says for how long.
func (d Silence) Error() string { return fmt.Sprintf("no answer for %v", time.Duration(d)) }

// Timeout is true; with Temporary it makes it a net.Error.
func (d Silence) Timeout() bool { return true }

// Temporary is true: a server may find its voice again.
func (d Silence) Temporary() bool { return true }

// Is makes it os.ErrDeadlineExceeded to errors.Is.
func (d Silence) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// causeOf replaces an error that comes of a context's end by the reason for
// that end.
func causeOf(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	// The deadline of a connection may fire just before that of the context
	// that it was taken from.
	if end, ok := ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
