package channel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/proxy"
)

// Proxy is a SOCKS5 proxy (RFC 1928).
type Proxy struct {
	Addr string // host:port
	// User is the name to log in with (RFC 1929), or empty for no login.
	User string
	// Secret returns the password, which is sent in the clear.
	Secret func(context.Context) (string, error)
}

// ProxyError means that a connection through a proxy failed.
type ProxyError struct {
	Addr string // the proxy's
	Err  error
	// Local means that the proxy received no request.
	Local bool
}

// Error returns "SOCKS5 proxy addr: cause".
func (e *ProxyError) Error() string { return "SOCKS5 proxy " + e.Addr + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

// Hint returns the hint of Advise.
func (e *ProxyError) Hint() string { return adviseProxy(e).Hint }

// dialer makes a function the dialer of package proxy.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (d dialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

func (d dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// dial connects to addr through the proxy, to which it connects with direct.
func (p *Proxy) dial(ctx context.Context, direct dialer, addr string) (net.Conn, error) {
	failed := &ProxyError{Addr: p.Addr}
	var auth *proxy.Auth
	if p.User != "" {
		password, err := p.Secret(ctx)
		if err != nil {
			return nil, &ProxyError{Addr: p.Addr, Err: fmt.Errorf("no password: %w", err), Local: true}
		}
		auth = &proxy.Auth{User: p.User, Password: password}
	}
	d, err := proxy.SOCKS5("tcp", p.Addr, auth, dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := direct(ctx, network, addr)
		failed.Local = err != nil
		return conn, err
	}))
	if err != nil {
		return nil, &ProxyError{Addr: p.Addr, Err: err, Local: true}
	}
	conn, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		return conn, nil
	}
	// The *net.OpError names proxy and server, and so do the ProxyError and its caller.
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	failed.Err = contextCause(ctx, err)
	return nil, failed
}
