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

var errChatter = errors.New("the server's reply does not end")

// wire bounds replies and gives them on, line by line, in the one form that
// go-smtp understands: with a blank behind a code that has no text (RFC 5321
// §4.2), with the keywords of extensions in upper case (§2.4), and with 250 for
// whatever code of success, where go-smtp waits for that alone (§4.3.2).
type wire struct {
	net.Conn
	hello string // the command that is answered with extensions

	ready   []byte // to be given on
	line    []byte // read, and not at its end yet
	said    []byte // the last line that was given on
	read    int    // octets since the last write
	verb    string // of the last command, whose reply may be one to more than its line
	greeted bool   // the last command was hello
}

func (w *wire) Read(p []byte) (int, error) {
	for len(w.ready) == 0 {
		if w.read >= maxReply {
			return 0, errChatter
		}
		n, err := w.Conn.Read(p)
		w.read += n
		w.line = append(w.line, p[:n]...)
		end := bytes.LastIndexByte(w.line, '\n') + 1
		for line := range bytes.Lines(w.line[:end]) {
			w.said = w.usual(line)
			w.ready = append(w.ready, w.said...)
		}
		if w.line = w.line[end:]; len(w.line) > maxLine || err != nil {
			// What comes of it is an error: that is for go-smtp to say.
			w.ready, w.line = append(w.ready, w.line...), nil
		}
		if err != nil && len(w.ready) == 0 {
			return 0, err
		}
	}
	n := copy(p, w.ready)
	w.ready = w.ready[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if w.greeted && bytes.HasPrefix(p, []byte("HELO ")) && strings.HasPrefix(w.hello, "LHLO ") {
		return 0, w.refusedLHLO()
	}
	// What follows a write without a reply, or a reply of 3yz, is of the same
	// command: a message is of DATA, and a response of AUTH.
	if w.verb == "" || w.read > 0 && !bytes.HasPrefix(w.said, []byte("3")) {
		verb, _, _ := bytes.Cut(bytes.TrimSpace(p), []byte(" "))
		w.verb = string(verb)
	}
	w.read, w.greeted = 0, string(p) == w.hello
	return w.Conn.Write(p)
}

var (
	success   = regexp.MustCompile(`^2[0-9]{2}([ -]|\r?\n)`)
	bare      = regexp.MustCompile(`^[0-9]{3}\r?\n$`)
	extension = regexp.MustCompile(`^250[ -][^\s]+`)
)

// usual returns a line of a reply in the form that go-smtp understands.
func (w *wire) usual(line []byte) []byte {
	switch w.verb {
	case "EHLO", "HELO", "LHLO", "MAIL", "DATA", "RSET":
		if success.Match(line) {
			line = append([]byte("250"), line[3:]...)
		}
	}
	switch {
	case bare.Match(line):
		return append(bytes.Clone(line[:3]), " \r\n"...)
	case w.greeted:
		return extension.ReplaceAllFunc(line, bytes.ToUpper)
	default:
		return line
	}
}

// refusedLHLO is the error of a server that does not know LHLO. go-smtp would try
// HELO then, as after EHLO. A server of SMTP takes that, and answers a message once,
// and not for each recipient: the wait for the other answers would be in vain, and
// the message sent again each time.
func (w *wire) refusedLHLO() error {
	code, lines, err := readReply(bytes.NewReader(w.said))
	if err == nil {
		err = refusal("LHLO", code, lines)
	}
	return err
}
