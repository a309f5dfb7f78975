package smtp

import (
	"bytes"
	"errors"
	"net"
	"regexp"
	"strings"
)

// maxReply bounds what a server may say to one command. A reply to a message
// by LMTP has a line of up to 512 octets for each of 100 recipients.
const maxReply = 256 << 10

var errEndlessReply = errors.New("the server's reply does not end")

// wire bounds replies and gives them on, line by line, in the one form that
// go-smtp understands: with a blank behind a code that has no text (RFC 5321
// §4.2), with the keywords of extensions in upper case (§2.4), and with 250 for
// whatever code of success, where go-smtp waits for that alone (§4.3.2).
type wire struct {
	net.Conn
	hello string // the command that is answered with extensions

	out       []byte // to be given on
	partial   []byte // read, and not at its end yet
	lastLine  []byte // the last line that was given on
	replySize int    // octets since the last write
	verb      string // of the last command, whose reply may be one to more than its line
	helloSent bool   // the last command was hello
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.out) == 0 {
		if w.replySize >= maxReply {
			return 0, errEndlessReply
		}
		n, err := w.Conn.Read(p)
		w.replySize += n
		w.partial = append(w.partial, p[:n]...)
		end := bytes.LastIndexByte(w.partial, '\n') + 1
		for line := range bytes.Lines(w.partial[:end]) {
			w.lastLine = w.normalize(line)
			w.out = append(w.out, w.lastLine...)
		}
		if w.partial = w.partial[end:]; len(w.partial) > maxLine || err != nil {
			// What comes of it is an error: that is for go-smtp to say.
			w.out, w.partial = append(w.out, w.partial...), nil
		}
		if err != nil && len(w.out) == 0 {
			return 0, err
		}
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if w.helloSent && bytes.HasPrefix(p, []byte("HELO ")) && strings.HasPrefix(w.hello, "LHLO ") {
		return 0, w.refusedLHLO()
	}
	// What follows a write without a reply, or a reply of 3yz, is of the same
	// command: a message is of DATA, and a response of AUTH.
	if w.verb == "" || w.replySize > 0 && !bytes.HasPrefix(w.lastLine, []byte("3")) {
		verb, _, _ := bytes.Cut(bytes.TrimSpace(p), []byte(" "))
		w.verb = string(verb)
	}
	w.replySize, w.helloSent = 0, string(p) == w.hello
	return w.Conn.Write(p)
}

var (
	successLine   = regexp.MustCompile(`^2[0-9]{2}([ -]|\r?\n)`)
	codeOnlyLine  = regexp.MustCompile(`^[0-9]{3}\r?\n$`)
	extensionLine = regexp.MustCompile(`^250[ -][^\s]+`)
)

// normalize returns a line of a reply in the form that go-smtp understands.
func (w *wire) normalize(line []byte) []byte {
	switch w.verb {
	case "EHLO", "HELO", "LHLO", "MAIL", "DATA", "RSET":
		if successLine.Match(line) {
			line = append([]byte("250"), line[3:]...)
		}
	}
	switch {
	case codeOnlyLine.Match(line):
		return append(bytes.Clone(line[:3]), " \r\n"...)
	case w.helloSent:
		return extensionLine.ReplaceAllFunc(line, bytes.ToUpper)
	default:
		return line
	}
}

// refusedLHLO is the error of a server that does not know LHLO. go-smtp would try
// HELO then, as after EHLO. A server of SMTP takes that, and answers a message once,
// and not for each recipient: the wait for the other answers would be in vain, and
// the message sent again each time.
func (w *wire) refusedLHLO() error {
	code, lines, err := readReply(bytes.NewReader(w.lastLine))
	if err == nil {
		err = replyRefusal("LHLO", code, lines)
	}
	return err
}
