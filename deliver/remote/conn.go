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

	mu                    sync.Mutex
	timeout               time.Duration
	readLimit, writeLimit time.Time // deadlines set from outside; zero is none
	lastByte              time.Time // when bytes last went over
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

// setDeadline sets the deadline of one read or write: the silence that is allowed
// after since, or the deadline set from outside if that is earlier. Under the
// lock, so that it cannot undo the end of a context.
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

func (c *conn) setWriting(writing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = writing
}

// noteBytes notes that n bytes went over.
func (c *conn) noteBytes(n int) {
	if n > 0 {
		c.mu.Lock()
		c.lastByte = time.Now()
		c.mu.Unlock()
	}
}

// mayRetry reports whether a call ran out of time though bytes have gone over
// since. It moves since to when they did: from then on silence counts. What a
// write under way has got rid of is not known, and it has a deadline of its
// own: as long as it lasts no read ran out of time.
func (c *conn) mayRetry(since, outer *time.Time, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := c.lastByte
	if c.writing { // it is not a write that asks
		moved = time.Now()
	}
	if !moved.After(*since) || !outer.IsZero() && !time.Now().Before(*outer) {
		return false
	}
	*since = moved
	return true
}

// recordError remembers the first error, and gives it its reason.
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

// interrupt fails all reads and writes, those under way included.
func (c *conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = cause
	}
	_ = c.Conn.SetDeadline(time.Unix(1, 0)) // it fails only if conn is closed
}

// The deadlines from outside count from the next read or write. Protocol
// packages set them before each command and take them away after it.

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

// BindContext has the end of ctx interrupt the reads and writes on a connection from
// Connect, TLS over it included, at once and for good: they fail with the
// context's cause. stop ends the watch; a connection whose context has not
// ended by then can be used on.
func BindContext(ctx context.Context, nc net.Conn) (stop func()) {
	c := baseConn(nc)
	done := context.AfterFunc(ctx, func() { c.interrupt(context.Cause(ctx)) })
	return func() { done() }
}

// ResumeReading lets a connection from Connect, TLS over it included, be read after a write
// to it has failed, with d for Timeout: what the server said before it hung up is
// still there.
func ResumeReading(nc net.Conn, d time.Duration) {
	c := baseConn(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.timeout = nil, d
}

// SetTimeout changes the Timeout of a connection from Connect, TLS over it
// included, from the next read or write on.
func SetTimeout(nc net.Conn, d time.Duration) {
	c := baseConn(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeout = d
}
