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
	// User is the name to log in with (RFC 1929), which sends the password in
	// the clear; without one there is no login. Secret returns the password.
	User   string
	Secret func(context.Context) (string, error)
}

// ProxyError means that a proxy did not connect us.
type ProxyError struct {
	Addr string // the proxy's
	Err  error
	// Ours means that it never came to asking the proxy.
	Ours bool
}

// Error returns "SOCKS5 proxy addr: cause".
func (e *ProxyError) Error() string { return "SOCKS5 proxy " + e.Addr + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

// Hint returns what the user can do, as Advise has it.
func (e *ProxyError) Hint() string { return adviseProxy(e).Hint }

// dialer is a function that package proxy can dial with.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (d dialer) Dial(network, addr string) (net.Conn, error) {
	return d(context.Background(), network, addr)
}

func (d dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return d(ctx, network, addr)
}

// dial has the proxy, which straight reaches, connect to addr.
func (p *Proxy) dial(ctx context.Context, straight dialer, addr string) (net.Conn, error) {
	failed := &ProxyError{Addr: p.Addr}
	var auth *proxy.Auth
	if p.User != "" {
		password, err := p.Secret(ctx)
		if err != nil {
			return nil, &ProxyError{Addr: p.Addr, Err: fmt.Errorf("no password: %w", err), Ours: true}
		}
		auth = &proxy.Auth{User: p.User, Password: password}
	}
	d, err := proxy.SOCKS5("tcp", p.Addr, auth, dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := straight(ctx, network, addr)
		failed.Ours = err != nil
		return conn, err
	}))
	if err != nil {
		return nil, &ProxyError{Addr: p.Addr, Err: err, Ours: true}
	}
	conn, err := d.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		return conn, nil
	}
	// It names both ends, which who calls does, too.
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	failed.Err = causeOf(ctx, err)
	return nil, failed
}
