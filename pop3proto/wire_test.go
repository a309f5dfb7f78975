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

// lingering is a connection that takes its time to set a deadline that has passed.
type lingering struct {
	*tape
	reading func()
	set     atomic.Bool
}

func (c *lingering) Read(p []byte) (int, error) {
	c.reading()
	return c.tape.Read(p)
}

func (c *lingering) SetDeadline(d time.Time) error {
	if d.After(time.Now()) {
		return c.tape.SetDeadline(d)
	}
	time.Sleep(time.Second)
	c.set.Store(true)
	return nil
}

// TestContextEndsWithReply ends a context as the reply comes. The deadline that this
// sets is not to hit the next command: the command is not over before.
func TestContextEndsWithReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &lingering{tape: &tape{src: &pieces{greeting, "+OK\r\n"}}, reading: func() {}}
		c, err := pop3proto.NewClient(t.Context(), conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		conn.reading = func() { cancel(); synctest.Wait() }
		if err := c.Noop(ctx); err != nil || !conn.set.Load() {
			t.Errorf("error %v, the deadline was set: %v", err, conn.set.Load())
		}
	})
}

// overtaken is a connection on which something happens before a deadline is set.
type overtaken struct {
	*tape
	read, write func()
	reads       int
}

func (c *overtaken) Read(p []byte) (int, error) {
	c.reads++
	return c.tape.Read(p)
}

func (c *overtaken) SetDeadline(d time.Time) error {
	if d.After(time.Now()) {
		c.read()
		return c.tape.SetDeadline(d)
	}
	return nil
}

func (c *overtaken) SetWriteDeadline(time.Time) error {
	c.write()
	return nil
}

// TestContextEndsBeforeDeadline ends a context just before the deadline is set that
// would undo what this does to the connection.
func TestContextEndsBeforeDeadline(t *testing.T) {
	for _, verb := range []string{"read", "write"} {
		conn := &overtaken{tape: &tape{src: &pieces{greeting, "+OK\r\n"}}, read: func() {}, write: func() {}}
		c, err := pop3proto.NewClient(t.Context(), conn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		writes := 1
		if verb == "read" {
			conn.read = cancel
		} else {
			conn.write, writes = cancel, 0
		}
		err = c.Noop(ctx)
		if !errors.Is(err, context.Canceled) || conn.reads != 1 || len(conn.writes) != writes {
			t.Errorf("%s: error %v, %d reads, %q written", verb, err, conn.reads, conn.writes)
		}
		cancel()
	}
}

// TestIdle has more time pass between two commands than the server has for a reply.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go follow(server, "S: +OK\nC: NOOP\nS: +OK\n")
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

// TestSecretInLongLine has a server whose line is cut, where it is quoted, in the
// middle of a secret.
func TestSecretInLongLine(t *testing.T) {
	const secret = "open sesame"
	for n := 60; n < 100; n++ {
		c, _ := play(t, nil, "+OK\r\n", strings.Repeat("x", n)+secret+"\r\n")
		if err := c.Login(t.Context(), "joe", secret); err == nil || strings.Contains(err.Error(), "xo") {
			t.Errorf("error %v", err)
		}
	}
}

// TestSecretAsResponseCode has a server that repeats a secret where a response code is.
func TestSecretAsResponseCode(t *testing.T) {
	c, _ := pipelining(t, nil, "+OK\r\n", "-ERR [open-sesame] is wrong\r\n")
	if err := c.Login(t.Context(), "joe", "open-sesame"); err == nil || err.Error() != `server refused PASS [***]: "is wrong"` {
		t.Errorf("error %v", err)
	}
}

// TestNewClientCloses fails before the greeting and over it.
func TestNewClientCloses(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), over} {
		conn := &tape{src: strings.NewReader("-ERR not now\r\n")}
		if _, err := pop3proto.NewClient(ctx, conn, nil); err == nil || !conn.closed {
			t.Errorf("error %v, closed: %v", err, conn.closed)
		}
	}
}
