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

// maxResponse bounds one response of the server, in octets, literals included. maxAnswer
// bounds what the server may send after a command, since about as much is kept in memory.
// Literals of FETCH responses do not count for maxAnswer, because they are not kept.
const (
	maxResponse = 16 << 20
	maxAnswer   = 32 << 20
)

var (
	errHungUp  = errors.New("the server closed the connection")
	errEndless = errors.New("the server sends an endless response")
)

// wire is a net.Conn between imapclient and the connection. It does six things.
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
// It corrects SASL exchanges. It sends an empty response, which SCRAM and GSSAPI have, as
// an empty line: imapclient sends "=", which is valid for an initial response only
// (RFC 4959 §3). It passes an empty challenge to imapclient as "=": imapclient takes an
// empty line for a request for an initial response, although LOGIN has none and some
// servers send an empty challenge for it.
//
// It writes response codes in upper case.
//
// It bounds what the server sends, and it keeps the error that broke the connection, of
// which imapclient keeps only the text.
//
// It ignores the deadlines that imapclient sets: wire reads ahead, so they would apply at
// the wrong time. The connection has its own.
type wire struct {
	net.Conn
	r   *bufio.Reader
	out *io.PipeWriter // what the server sends; imapclient reads it from in
	in  *io.PipeReader
	// readerDone is closed when the connection has ended and all is passed on.
	readerDone chan struct{}

	// saslActive is set during a SASL exchange, saslCancelled once we cancel it.
	saslActive, saslCancelled atomic.Bool
	// received counts the octets since the last Write, for maxAnswer.
	received atomic.Int64
	// literal is the next literal that must not wait; nil if there is none.
	literal atomic.Pointer[literal]
	// response is held while a response is passed on, so that injectResponse does not
	// write into the middle of it.
	response sync.Mutex

	mu     sync.Mutex
	err    error  // what broke the connection
	bye    string // the text of the server's BYE
	uids   string // the last set of UIDs that keepFirstUID has replaced
	closed bool
}

// literal is a literal that imapclient announces with one size and wire with another.
type literal struct{ announced, sent int64 }

// newWire returns a wire that reads from conn until that ends. imapclient reads greeting
// first.
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

// Write implements net.Conn. It relies on imapclient to send a command up to a
// synchronising literal in a single Write.
func (w *wire) Write(p []byte) (n int, err error) {
	w.received.Store(0)
	if w.saslActive.Load() && string(p) == "=\r\n" {
		return w.writeEmptyResponse(p)
	}
	n, err = w.writeCommand(p)
	if err != nil {
		w.fail(err)
	}
	if isHangUp(err) {
		// First pass on what the server sent before it hung up: it may say why.
		remote.ResumeReading(w.Conn, time.Second)
		select {
		case <-w.readerDone:
		case <-time.After(time.Second):
		}
	}
	return n, err
}

// writeEmptyResponse sends an empty SASL response in place of p, or cancels the exchange.
func (w *wire) writeEmptyResponse(p []byte) (int, error) {
	line := "\r\n"
	if w.saslCancelled.Load() {
		line = "*\r\n" // RFC 9051 §6.2.2
	}
	if _, err := io.WriteString(w.Conn, line); err != nil {
		w.fail(err)
		return 0, err
	}
	return len(p), nil
}

// writeCommand sends a part of a command. If it ends with the size of the literal that must
// not wait, wire announces that literal as non-synchronising, and tells imapclient to go on.
func (w *wire) writeCommand(p []byte) (int, error) {
	l := w.literal.Load()
	if l == nil {
		return w.Conn.Write(p)
	}
	head, found := bytes.CutSuffix(p, fmt.Appendf(nil, "{%d}\r\n", l.announced))
	if !found {
		return w.Conn.Write(p)
	}
	w.literal.Store(nil)
	if _, err := w.Conn.Write(fmt.Appendf(nil, "%s{%d+}\r\n", head, l.sent)); err != nil {
		return 0, err
	}
	return len(p), w.injectResponse("+ go ahead\r\n")
}

// isHangUp reports whether a write failed because the server has hung up. It may have sent
// the reason before.
func isHangUp(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// injectResponse passes a response to imapclient that the server did not send.
func (w *wire) injectResponse(response string) error {
	w.response.Lock()
	defer w.response.Unlock()
	_, err := io.WriteString(w.out, response)
	return err
}

// forwardResponse reads a response from the server and passes it to imapclient.
func (w *wire) forwardResponse() error {
	if _, err := w.r.Peek(1); err != nil {
		return err
	}
	w.response.Lock()
	defer w.response.Unlock()
	var hasLiterals, isFetch bool
	budget := maxResponse // octets that may still come
	for first := true; ; first = false {
		line, err := w.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
		if first {
			hasLiterals, isFetch = w.mayHoldLiterals(line), fetchResponse.Match(line)
			if w.saslActive.Load() && string(bytes.TrimSpace(line)) == "+" {
				line = []byte("+ =\r\n")
			}
			line = w.keepFirstUID(responseCode.ReplaceAllFunc(line, bytes.ToUpper))
		}
		budget -= len(line)
		if budget < 0 || w.received.Add(int64(len(line))) > maxAnswer {
			return errEndless
		}
		if _, err := w.out.Write(line); err != nil {
			return err
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		size, ok := literalSize(line)
		if !ok || !hasLiterals {
			return nil
		}
		if size > budget || !isFetch && w.received.Add(int64(size)) > maxAnswer {
			return errEndless
		}
		budget -= size
		if _, err := io.CopyN(w.out, w.r, int64(size)); err != nil {
			return err
		}
	}
}

// responseCode matches the beginning of a response with a code. The server may send it in
// lower case (RFC 9051 §9), but imapclient understands upper case only.
var responseCode = regexp.MustCompile(`(?i)^\S+ (OK|NO|BAD|BYE|PREAUTH) \[[A-Z-]+`)

// fetchResponse matches the beginning of a FETCH response (RFC 9051 §7.5.2).
var fetchResponse = regexp.MustCompile(`(?i)^\* [0-9]+ FETCH `)

// mayHoldLiterals reports whether a response that begins with line may contain literals.
// Status responses do not, although their text may look like one. It keeps the text of BYE.
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

// fail records the first error, after which the connection cannot be used any more.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.closed {
		w.err = eofAsHangUp(err)
	}
}

// isBroken reports whether the connection cannot be used any more.
func (w *wire) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed || w.err != nil
}

// cause returns why the connection broke, with the text of BYE if the server has ended it.
// It returns nil if neither the connection nor the server is the reason. Secrets of the
// login are masked.
func (w *wire) cause(secrets *remote.Login) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bye != "" && (w.err == nil || w.err == errHungUp || isHangUp(w.err)) {
		return fmt.Errorf("%w: %.200q", errHungUp, secrets.Mask(w.bye))
	}
	return w.err
}

// eofAsHangUp returns errHungUp for io.EOF, and any other error unchanged.
func eofAsHangUp(err error) error {
	if err == io.EOF {
		return errHungUp
	}
	return err
}

// The deadlines of imapclient are ignored.

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
