package pop3proto

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// Options configures a Client. The zero value selects the defaults.
type Options struct {
	// Timeout limits each wait for the server's next byte, or for the server
	// to accept commands. 0 means 60 seconds.
	Timeout time.Duration
	// Window limits the number of unanswered commands where the server offers
	// PIPELINING; 1 disables pipelining. 0 leaves only the limits that always
	// apply: 4 KiB of commands (16 KiB of DELE), and about as many octets of
	// messages as arrive in a second.
	Window int
	// MaxMessages limits the lines of a listing. 0 means 5,000,000.
	MaxMessages int
	// Trace receives the dialogue, with secrets and message bodies masked. It
	// may be nil.
	Trace Tracer
}

const (
	defaultTimeout     = 60 * time.Second
	defaultMaxMessages = 5_000_000
)

// Client is a POP3 session. Only one goroutine at a time may call its methods,
// except Close.
type Client struct {
	w        wire
	opts     Options
	greeting string
	caps     Capabilities // the last reply to CAPA

	inLoop     bool      // a loop over messages is running
	unfinished *pipeline // a loop that may have left replies unread

	hasStat  bool       // the server has sent a usable reply to STAT
	lastStat *statReply // the reply to the STAT that ended the last pipeline, if any
}

const verbGreeting = "greeting"

// NewClient starts a session over conn and reads the server's greeting (RFC
// 1939 §4). conn is a TCP connection, or a *tls.Conn for implicit TLS (RFC
// 8314 §3.1), with or without a completed handshake. If the server greets with
// -ERR, the error is a *ReplyError with Verb "greeting". After any error conn
// is closed. opts may be nil.
func NewClient(ctx context.Context, conn net.Conn, opts *Options) (*Client, error) {
	c := &Client{}
	if opts != nil {
		c.opts = *opts
	}
	c.opts.setDefaults()
	c.w = wire{raw: conn, conn: conn, timeout: c.opts.Timeout, tracer: c.opts.Trace, buf: make([]byte, bufferSize)}
	if tlsConn, ok := conn.(interface{ NetConn() net.Conn }); ok {
		c.w.raw = tlsConn.NetConn()
	}
	if err := c.readGreeting(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) readGreeting(ctx context.Context) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	text, err := c.readReply(verbGreeting)
	c.greeting = string(text)
	return err
}

func (o *Options) setDefaults() {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Window <= 0 {
		o.Window = maxDeleteOctets // in effect unlimited: every command is longer than an octet
	}
	if o.MaxMessages <= 0 {
		o.MaxMessages = defaultMaxMessages
	}
}

// Greeting returns the text that followed +OK in the server's greeting.
func (c *Client) Greeting() string { return c.greeting }

// TLS returns the state of the TLS connection, and false if there is none.
func (c *Client) TLS() (tls.ConnectionState, bool) {
	conn, ok := c.w.conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return tls.ConnectionState{}, false
	}
	return conn.ConnectionState(), true
}

// Close closes the connection at once, without QUIT: the server discards the
// session's deletions (RFC 1939 §6). It may be called from any goroutine, at any
// time and more than once. A running command fails.
func (c *Client) Close() error {
	if err := c.w.raw.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Broken reports whether the client is broken, so that every command would
// return ErrBroken.
func (c *Client) Broken() bool { return c.w.err != nil }

// begin prepares the connection for a command that obeys ctx, and first reads
// the replies that an abandoned loop left behind. The caller must call end when
// the command is over. If ctx has already ended, the client is not broken.
func (c *Client) begin(ctx context.Context) (end func(), err error) {
	if c.w.err != nil {
		return nil, c.w.err
	}
	if c.inLoop {
		return nil, errInLoop
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	end = c.w.bindContext(ctx)
	if c.unfinished != nil {
		if err := c.unfinished.drain(); err != nil {
			end()
			return nil, err
		}
		c.unfinished = nil
	}
	return end, nil
}

// checkUnsolicited breaks the client if the server has sent something that no
// command asked for. It would be taken for the reply to the next command, verb.
func (c *Client) checkUnsolicited(verb string) error {
	if extra := c.w.buffered(); len(extra) > 0 {
		return c.w.failSyntax(verb, "nothing before the command", extra)
	}
	return nil
}

// exchange sends a command line and returns the text of its one-line reply,
// valid until the next read.
func (c *Client) exchange(verb, line string) (text []byte, err error) {
	if err := c.checkUnsolicited(verb); err != nil {
		return nil, err
	}
	c.w.queue(line)
	if err := c.w.flush(); err != nil {
		return nil, err
	}
	return c.readReply(verb)
}

// simpleCommand runs a command without arguments and ignores the text of its
// one-line reply.
func (c *Client) simpleCommand(ctx context.Context, verb string) error {
	end, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	_, err = c.exchange(verb, verb)
	return err
}

// window returns how many commands may be unanswered at once.
func (c *Client) window() int {
	if c.caps.Has("PIPELINING") { // RFC 2449 §6.6
		return c.opts.Window
	}
	return 1
}
