package pop3proto

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// Options are the bounds of a Client. The zero value is meant to be used.
type Options struct {
	// Timeout is the longest silence: the wait for the server's next byte, or
	// for its taking a command. 0 is 60 seconds.
	Timeout time.Duration
	// Window is how many commands may be under way at once where the server
	// offers PIPELINING. 0 sets no number: 4 KiB of commands (16 KiB of DELE), and
	// what the line brings of messages in a second, are the bounds in any case. 1
	// is never to pipeline.
	Window int
	// MaxMessages is how many lines of a listing are believed. 0 is
	// 5,000,000.
	MaxMessages int
	// Trace sees the dialogue, with secrets and bodies masked. It may be nil.
	Trace Tracer
}

const (
	defaultTimeout     = 60 * time.Second
	defaultMaxMessages = 5_000_000
)

// Client is a POP3 session. Its methods are called by one goroutine at a
// time, except Close.
type Client struct {
	w        wire
	opts     Options
	greeting string
	caps     Capabilities // the last answer to CAPA
	looping  bool         // inside a loop over messages
	left     *flight      // what such a loop left unread
	counted  bool         // STAT was asked, and said something of use
	stat     *stat        // the reply to the STAT behind the last such loop, if it was read
}

const verbGreeting = "greeting"

// NewClient starts a session over conn and reads the server's greeting (RFC
// 1939 §4). conn is a TCP connection, or a *tls.Conn for implicit TLS (RFC
// 8314 §3.3), whose handshake may still be to do. If the server greets with
// -ERR the error is a *ReplyError with Verb "greeting". After any error conn
// is closed. opts may be nil.
func NewClient(ctx context.Context, conn net.Conn, opts *Options) (*Client, error) {
	c := &Client{}
	if opts != nil {
		c.opts = *opts
	}
	c.opts.fill()
	c.w = wire{raw: conn, conn: conn, timeout: c.opts.Timeout, tracer: c.opts.Trace, buf: make([]byte, bufferSize)}
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		c.w.raw = under.NetConn()
	}
	done, err := c.start(ctx)
	if err != nil {
		c.Close()
		return nil, err
	}
	defer done()
	text, err := c.reply(verbGreeting)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.greeting = string(text)
	return c, nil
}

func (o *Options) fill() {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Window <= 0 {
		o.Window = maxDeletions // no bound: each command is longer than an octet
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = defaultMaxMessages
	}
}

// Greeting returns what the server said in its greeting after +OK.
func (c *Client) Greeting() string { return c.greeting }

// TLS returns the state of the TLS connection, and false if there is none.
func (c *Client) TLS() (tls.ConnectionState, bool) {
	conn, ok := c.w.conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return tls.ConnectionState{}, false
	}
	return conn.ConnectionState(), true
}

// Close hangs up at once, without QUIT: the server forgets the session's
// deletions (RFC 1939 §6). It may be called from any goroutine, at any time
// and more than once; a command that is under way fails.
func (c *Client) Close() error {
	if err := c.w.raw.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Broken reports whether all that is left is Close.
func (c *Client) Broken() bool { return c.w.err != nil }

// start readies the connection for a command that obeys ctx. done ends it. A
// ctx that has ended already leaves the client as it was.
func (c *Client) start(ctx context.Context) (done func(), err error) {
	if c.w.err != nil {
		return nil, c.w.err
	}
	if c.looping {
		return nil, errLooping
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	done = c.w.watch(ctx)
	if c.left != nil {
		if err := c.left.drain(); err != nil {
			done()
			return nil, err
		}
		c.left = nil
	}
	return done, nil
}

// idle makes sure that the server has said nothing that it was not asked
// for: the next line would be taken for the reply to the next command.
func (c *Client) idle(verb string) error {
	if extra := c.w.pending(); len(extra) > 0 {
		return c.w.failSyntax(verb, "nothing before the command", extra)
	}
	return nil
}

// exchange sends a command and returns the text of its one-line reply.
func (c *Client) exchange(verb, line string) (text []byte, err error) {
	if err := c.idle(verb); err != nil {
		return nil, err
	}
	c.w.put(line)
	if err := c.w.flush(); err != nil {
		return nil, err
	}
	return c.reply(verb)
}

// command is a whole command with a one-line reply whose text says nothing.
func (c *Client) command(ctx context.Context, verb string) error {
	done, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = c.exchange(verb, verb)
	return err
}

// window returns how many commands may be under way at once.
func (c *Client) window() int {
	if c.caps.Has("PIPELINING") { // RFC 2449 §6.6
		return c.opts.Window
	}
	return 1
}
