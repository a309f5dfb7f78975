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

// maxWrite is the most that is written under one deadline.
const maxWrite = 32 << 10

// conn is a connection whose deadlines move on with each byte, in either
// direction: a protocol's reader may wait all the while that a long message
// goes out. It lies below TLS, so that they count bytes on the wire.
type conn struct {
	net.Conn

	mu          sync.Mutex
	timeout     time.Duration
	read, write time.Time // deadlines set from outside; zero is none
	moved       time.Time // when bytes last went over
	writing     bool      // a write is under way
	broken      error     // why every further call fails
}

func (c *conn) Read(p []byte) (int, error) {
	for since := time.Now(); ; {
		limit, err := c.arm(since, &c.read, c.Conn.SetReadDeadline)
		if err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		c.count(n)
		if n == 0 && c.early(&since, &c.read, err) {
			continue
		}
		return n, c.failed(limit, err)
	}
}

func (c *conn) Write(p []byte) (n int, err error) {
	for since := time.Now(); ; {
		limit, err := c.arm(since, &c.write, c.Conn.SetWriteDeadline)
		if err != nil {
			return n, err
		}
		c.busy(true)
		m, err := c.Conn.Write(p[n:min(len(p), n+maxWrite)])
		n += m
		c.count(m)
		c.busy(false)
		if c.early(&since, &c.write, err) {
			continue
		}
		if err := c.failed(limit, err); err != nil || n == len(p) {
			return n, err
		}
		since = time.Now()
	}
}

// arm sets the deadline of one read or write: the silence that is allowed
// after since, or the deadline set from outside if that is earlier. Under the
// lock, so that it cannot undo the end of a context.
func (c *conn) arm(since time.Time, outer *time.Time, set func(time.Time) error) (limit time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	deadline := since.Add(c.timeout)
	if !outer.IsZero() && outer.Before(deadline) {
		deadline = *outer
	}
	return c.timeout, set(deadline)
}

func (c *conn) busy(writing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = writing
}

// count notes that n bytes went over.
func (c *conn) count(n int) {
	if n > 0 {
		c.mu.Lock()
		c.moved = time.Now()
		c.mu.Unlock()
	}
}

// early reports whether a call ran out of time though bytes have gone over
// since. It moves since to when they did: from then on silence counts. What a
// write under way has got rid of is not known, and it has a deadline of its
// own: as long as it lasts no read ran out of time.
func (c *conn) early(since, outer *time.Time, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := c.moved
	if c.writing { // it is not a write that asks
		moved = time.Now()
	}
	if !moved.After(*since) || !outer.IsZero() && !time.Now().Before(*outer) {
		return false
	}
	*since = moved
	return true
}

// failed remembers the first error, and gives it its reason.
func (c *conn) failed(limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		if c.broken = err; errors.Is(err, os.ErrDeadlineExceeded) {
			c.broken = channel.Silence(limit)
		}
	}
	return c.broken
}

// kill fails all reads and writes, those under way included.
func (c *conn) kill(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = cause
	}
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // it fails only if conn is closed
}

// The deadlines from outside count from the next read or write. Protocol
// packages set them before each command and take them away after it.

func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = t, t
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return nil
}

// under returns the conn below TLS of a connection from Connect.
func under(nc net.Conn) *conn {
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		panic("remote: not a connection of Connect")
	}
	return c
}

// Obey has the end of ctx interrupt the reads and writes on a connection from
// Connect, TLS over it included, at once and for good: they fail with the
// context's cause. stop ends the watch; a connection whose context has not
// ended by then can be used on.
func Obey(ctx context.Context, nc net.Conn) (stop func()) {
	c := under(nc)
	done := context.AfterFunc(ctx, func() { c.kill(context.Cause(ctx)) })
	return func() { done() }
}

// Hear lets a connection from Connect, TLS over it included, be read after a write
// to it has failed, with d for Timeout: what the server said before it hung up is
// still there.
func Hear(nc net.Conn, d time.Duration) {
	c := under(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken, c.timeout = nil, d
}

// SetSilence changes the Timeout of a connection from Connect, TLS over it
// included, from the next read or write on.
func SetSilence(nc net.Conn, d time.Duration) {
	c := under(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
}
