package imap

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailhaul/mailhaul/deliver/remote"
)

// maxResponse bounds one response of the server, literals included, and maxAnswer
// all that it says without being asked anything new. What of messages is in literals
// does not count for that, since nobody keeps it; of the rest, imapclient or we keep
// about as much.
const (
	maxResponse = 16 << 20
	maxAnswer   = 32 << 20
)

var (
	errHungUp  = errors.New("the server closed the connection")
	errEndless = errors.New("the server sends an endless response")
)

// wire lies between imapclient and the connection, and does six things.
//
// It makes literals of any size non-synchronising: imapclient has a literal of
// more than 4,096 octets wait for the server's consent even if the server
// offers LITERAL+ (RFC 7888), which costs a round trip a message. wire sends
// such a literal's length with a plus sign, and gives the consent itself.
//
// It lets one APPEND hold several messages (RFC 3502), which imapclient knows
// nothing of: to imapclient, they and what stands between them are one literal.
// wire sends the length of the first message as that literal's, and of the set
// of UIDs in the answer it passes on the first.
//
// It mends what imapclient makes of SASL, as long as an exchange is under way. An
// empty response it writes as an empty line: imapclient writes "=", which stands
// for an initial response alone (RFC 4959 §3). SCRAM and GSSAPI have such
// responses. An empty challenge it passes on as "=", which imapclient takes for
// one: an empty line it takes for the server's wish for an initial response,
// though LOGIN has none, and some servers ask its questions in this way.
//
// It writes response codes in upper case.
//
// It bounds what the server sends, and it remembers why the connection broke:
// imapclient flattens that into text.
//
// The deadlines that imapclient sets are left out. They would count what wire
// has read ahead; the connection has its own.
type wire struct {
	net.Conn
	r   *bufio.Reader
	out *io.PipeWriter // what the server sends, to in
	in  *io.PipeReader
	// over is closed once all is passed on that the server ever said.
	readerDone chan struct{}

	// exchange is set while SASL is spoken, cancelled once we have enough of it.
	saslActive, saslCancelled atomic.Bool
	// said is what the server has said since the last Write, see maxAnswer.
	received atomic.Int64
	// literal is the next literal that is not to wait, nil for none.
	literal atomic.Pointer[literal]
	// response is held while one is passed on, so that none is put into the
	// middle of another.
	response sync.Mutex

	mu     sync.Mutex
	err    error  // what broke the connection
	bye    string // the server's farewell
	uids   string // the last set of UIDs of which the first was passed on
	closed bool
}

// literal is one that imapclient has as of one size, and that is sent as of
// another.
type literal struct{ announced, sent int64 }

// newWire reads from conn until that ends. greeting comes before all that is
// read.
func newWire(conn net.Conn, greeting string) *wire {
	w := &wire{Conn: conn, r: bufio.NewReaderSize(io.MultiReader(strings.NewReader(greeting), conn), 64<<10), readerDone: make(chan struct{})}
	w.in, w.out = io.Pipe()
	go func() {
		defer close(w.readerDone)
		var err error
		for err == nil {
			err = w.forwardResponse()
		}
		w.fail(err)
		_ = w.out.CloseWithError(err)
	}()
	return w
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

// Write implements net.Conn. imapclient sends a command up to a literal that
// waits in one Write.
func (w *wire) Write(p []byte) (n int, err error) {
	w.received.Store(0)
	if w.saslActive.Load() && string(p) == "=\r\n" {
		line := "\r\n"
		if w.saslCancelled.Load() {
			line = "*\r\n" // RFC 9051 §6.2.2
		}
		if _, err = io.WriteString(w.Conn, line); err != nil {
			w.fail(err)
			return 0, err
		}
		return len(p), nil
	}
	head, waits := p, false
	l := w.literal.Load()
	if l != nil {
		head, waits = bytes.CutSuffix(p, fmt.Appendf(nil, "{%d}\r\n", l.announced))
	}
	if waits {
		w.literal.Store(nil)
		if _, err = w.Conn.Write(fmt.Appendf(nil, "%s{%d+}\r\n", head, l.sent)); err == nil {
			n, err = len(p), w.injectResponse("+ go ahead\r\n")
		}
	} else {
		n, err = w.Conn.Write(p)
	}
	if err != nil {
		w.fail(err)
	}
	if isHangUp(err) {
		remote.ResumeReading(w.Conn, time.Second)
		select {
		case <-w.readerDone:
		case <-time.After(time.Second):
		}
	}
	return n, err
}

// isHangUp reports whether the server hung up before it had read all. It may have
// said why.
func isHangUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// injectResponse passes on a response that the server did not send.
func (w *wire) injectResponse(response string) error {
	w.response.Lock()
	defer w.response.Unlock()
	_, err := io.WriteString(w.out, response)
	return err
}

// forwardResponse waits for a response and passes it on.
func (w *wire) forwardResponse() error {
	if _, err := w.r.Peek(1); err != nil {
		return err
	}
	w.response.Lock()
	defer w.response.Unlock()
	data, fetch := false, false
	budget := maxResponse
	for first := true; ; first = false {
		line, err := w.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if first {
			data, fetch = w.mayHoldLiterals(line), fetchResponse.Match(line)
			if w.saslActive.Load() && string(bytes.TrimSpace(line)) == "+" {
				line = []byte("+ =\r\n")
			}
			line = w.keepFirstUID(responseCode.ReplaceAllFunc(line, bytes.ToUpper))
		}
		if budget -= len(line); budget < 0 || w.received.Add(int64(len(line))) > maxAnswer {
			return errEndless
		}
		if _, err := w.out.Write(line); err != nil {
			return err
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		size, ok := literalSize(line)
		if !ok || !data {
			return nil
		}
		if size > budget || !fetch && w.received.Add(int64(size)) > maxAnswer {
			return errEndless
		}
		budget -= size
		if _, err := io.CopyN(w.out, w.r, int64(size)); err != nil {
			return err
		}
	}
}

// responseCode is the beginning of a response with a code, whose letters may be of
// either case (RFC 9051 §9). imapclient knows it in upper case alone.
var responseCode = regexp.MustCompile(`(?i)^\S+ (OK|NO|BAD|BYE|PREAUTH) \[[A-Z-]+`)

// fetchResponse is the beginning of a response that shows a message (RFC 9051 §7.5.2).
var fetchResponse = regexp.MustCompile(`(?i)^\* [0-9]+ FETCH `)

// mayHoldLiterals reports whether a response that begins with line may hold literals.
// Those that end in a text for people do not, though the text may look it.
func (w *wire) mayHoldLiterals(line []byte) bool {
	rest, data := bytes.CutPrefix(line, []byte("* "))
	if !data {
		return false
	}
	word, text, _ := bytes.Cut(rest, []byte(" "))
	switch string(bytes.ToUpper(bytes.TrimSpace(word))) {
	case "BYE":
		w.mu.Lock()
		w.bye = string(bytes.TrimSpace(text))
		w.mu.Unlock()
		return false
	case "OK", "NO", "BAD", "PREAUTH":
		return false
	}
	return true
}

// literalSize returns the size of the literal that a line announces (RFC 9051
// §4.3).
func literalSize(line []byte) (int, bool) {
	line, ok := bytes.CutSuffix(line, []byte("}\r\n"))
	i := bytes.LastIndexByte(line, '{')
	if !ok || i < 0 {
		return 0, false
	}
	size, err := strconv.ParseUint(string(line[i+1:]), 10, 31)
	return int(size), err == nil
}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	_ = w.in.Close()
	return w.Conn.Close()
}

// fail remembers why the connection is of no more use.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.closed {
		w.err = eofAsHangUp(err)
	}
}

// isBroken reports whether the connection is of no more use.
func (w *wire) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed || w.err != nil
}

// cause is why the connection broke, nil if it was not the connection and not
// the server's will. The server's words are without the secrets of the login.
func (w *wire) cause(secrets *remote.Login) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bye != "" && (w.err == nil || w.err == errHungUp || isHangUp(w.err)) {
		return fmt.Errorf("%w: %.200q", errHungUp, secrets.Mask(w.bye))
	}
	return w.err
}

// eofAsHangUp names the error of a connection that ended in good order.
func eofAsHangUp(err error) error {
	if err == io.EOF {
		return errHungUp
	}
	return err
}

// The deadlines of imapclient are left out.

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
