package pop3proto_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// slowDeadlineConn is a connection that takes a second to set a deadline in the past.
type slowDeadlineConn struct {
	*scriptConn
	beforeRead func()
	set        atomic.Bool // a deadline in the past was set
}

func (c *slowDeadlineConn) Read(p []byte) (int, error) {
	c.beforeRead()
	return c.scriptConn.Read(p)
}

func (c *slowDeadlineConn) SetDeadline(d time.Time) error {
	if d.After(time.Now()) {
		return c.scriptConn.SetDeadline(d)
	}
	time.Sleep(time.Second)
	c.set.Store(true)
	return nil
}

// TestContextEndsWithReply cancels a context while the reply arrives. The command must not
// return before the deadline for that is set, which could otherwise hit the next command.
func TestContextEndsWithReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &slowDeadlineConn{scriptConn: &scriptConn{src: &segments{greeting, "+OK\r\n"}}, beforeRead: func() {}}
		c, err := pop3proto.NewClient(t.Context(), conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		conn.beforeRead = func() { cancel(); synctest.Wait() }
		if err := c.Noop(ctx); err != nil || !conn.set.Load() {
			t.Errorf("error %v, the deadline was set: %v", err, conn.set.Load())
		}
	})
}

// raceConn is a connection that calls functions before it sets a deadline in the future.
type raceConn struct {
	*scriptConn
	beforeDeadline      func() // before SetDeadline
	beforeWriteDeadline func() // before SetWriteDeadline
	reads               int
}

func (c *raceConn) Read(p []byte) (int, error) {
	c.reads++
	return c.scriptConn.Read(p)
}

func (c *raceConn) SetDeadline(d time.Time) error {
	if d.After(time.Now()) {
		c.beforeDeadline()
		return c.scriptConn.SetDeadline(d)
	}
	return nil
}

func (c *raceConn) SetWriteDeadline(time.Time) error {
	c.beforeWriteDeadline()
	return nil
}

// TestContextEndsBeforeDeadline cancels a context just before the command sets its
// deadline, which overwrites the one that the cancellation has set. The command must notice.
func TestContextEndsBeforeDeadline(t *testing.T) {
	for _, verb := range []string{"read", "write"} {
		conn := &raceConn{scriptConn: &scriptConn{src: &segments{greeting, "+OK\r\n"}}, beforeDeadline: func() {}, beforeWriteDeadline: func() {}}
		c, err := pop3proto.NewClient(t.Context(), conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		writes := 1
		if verb == "read" {
			conn.beforeDeadline = cancel
		} else {
			conn.beforeWriteDeadline, writes = cancel, 0
		}
		err = c.Noop(ctx)
		if !errors.Is(err, context.Canceled) || conn.reads != 1 || len(conn.writes) != writes {
			t.Errorf("%s: error %v, %d reads, %q written", verb, err, conn.reads, conn.writes)
		}
		cancel()
	}
}

// TestIdle checks that Options.Timeout does not apply to the time between commands.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go runTranscript(server, "S: +OK\nC: NOOP\nS: +OK\n")
		c, err := pop3proto.NewClient(t.Context(), client, &pop3proto.Options{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

// TestNewClientCloses checks that NewClient closes the connection if ctx has ended, and if
// the greeting is -ERR.
func TestNewClientCloses(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), ended} {
		conn := &scriptConn{src: strings.NewReader("-ERR not now\r\n")}
		if _, err := pop3proto.NewClient(ctx, conn, nil); err == nil || !conn.closed {
			t.Errorf("error %v, closed: %v", err, conn.closed)
		}
	}
}
