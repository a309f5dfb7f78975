package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
)

// maxWrite is how many octets are written under one deadline.
const maxWrite = 32 << 10

// conn is a connection with a timeout that each octet in either direction restarts: the
// reader of a protocol may wait for as long as a large message is being sent. It is below
// TLS, so that it sees the octets on the wire.
type conn struct {
	net.Conn

	mu                    sync.Mutex
	timeout               time.Duration
	readLimit, writeLimit time.Time // deadlines set from outside; zero is none
	lastByte              time.Time // when an octet was last read or written
	writing               bool      // a write is under way
	err                   error     // why every further call fails
}

func (c *conn) Read(p []byte) (int, error) {
	for since := time.Now(); ; {
		limit, err := c.setDeadline(since, &c.readLimit, c.Conn.SetReadDeadline)
		if err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		c.noteBytes(n)
		if n == 0 && c.mayRetry(&since, &c.readLimit, err) {
			continue
		}
		return n, c.recordError(limit, err)
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	for since := time.Now(); ; {
		limit, err := c.setDeadline(since, &c.writeLimit, c.Conn.SetWriteDeadline)
		if err != nil {
			return n, err
		}
		c.setWriting(true)
		m, err := c.Conn.Write(p[n:min(len(p), n+maxWrite)])
		n += m
		c.noteBytes(m)
		c.setWriting(false)
		if c.mayRetry(&since, &c.writeLimit, err) {
			continue
		}
		if err := c.recordError(limit, err); err != nil || n == len(p) {
			return n, err
		}
		since = time.Now()
	}
}

// setDeadline sets the deadline of one read or write: timeout after since, or the deadline from
// outside if that is earlier. It holds the lock, so that it cannot undo interrupt. It returns
// the timeout.
func (c *conn) setDeadline(since time.Time, outer *time.Time, set func(time.Time) error) (limit time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	deadline := since.Add(c.timeout)
	if !outer.IsZero() && outer.Before(deadline) {
		deadline = *outer
	}
	return c.timeout, set(deadline)
}

// setWriting records whether a write is under way.
func (c *conn) setWriting(writing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = writing
}

// noteBytes records the time if n octets were read or written.
func (c *conn) noteBytes(n int) {
	if n > 0 {
		c.mu.Lock()
		c.lastByte = time.Now()
		c.mu.Unlock()
	}
}

// mayRetry reports whether a call that timed out may go on, because an octet was read or
// written after since. It sets since to that time. While a write is under way, a read may
// always go on: how much of the write is done is not known, and it has its own deadline.
func (c *conn) mayRetry(since, outer *time.Time, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := c.lastByte
	if c.writing { // then the caller is Read
		moved = time.Now()
	}
	if !moved.After(*since) || !outer.IsZero() && !time.Now().Before(*outer) {
		return false
	}
	*since = moved
	return true
}

// recordError keeps the first error, which all later calls return. For a timeout, that is an
// error that says how long the peer was silent.
func (c *conn) recordError(limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		if c.err = err; errors.Is(err, os.ErrDeadlineExceeded) {
			c.err = channel.Silence(limit)
		}
	}
	return c.err
}

// interrupt makes all reads and writes fail, those under way included.
func (c *conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = cause
	}
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // it fails only if conn is closed
}

// The next three methods do not affect a read or a write that is under way. The packages of
// the protocols set a deadline before a command and remove it after that.

func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readLimit, c.writeLimit = t, t
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readLimit = t
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLimit = t
	return nil
}

// baseConn returns the conn below TLS of a connection from Connect.
func baseConn(nc net.Conn) *conn {
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		panic("remote: not a connection of Connect")
	}
	return c
}

// BindContext makes the end of ctx interrupt all reads and writes on a connection from
// Connect, or on TLS over one. They fail with the context's cause, then and later. stop
// undoes BindContext; if ctx has not ended before, the connection can still be used.
func BindContext(ctx context.Context, nc net.Conn) (stop func()) {
	c := baseConn(nc)
	done := context.AfterFunc(ctx, func() { c.interrupt(context.Cause(ctx)) })
	return func() { done() }
}

// ResumeReading allows reading from a connection from Connect, or from TLS over one, after a
// write has failed: what the server sent before it hung up can still be read. d becomes
// the Timeout.
func ResumeReading(nc net.Conn, d time.Duration) {
	c := baseConn(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.timeout = nil, d
}

// SetTimeout changes the Timeout of a connection from Connect, or of TLS over one, from the
// next read or write on.
func SetTimeout(nc net.Conn, d time.Duration) {
	c := baseConn(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
}
