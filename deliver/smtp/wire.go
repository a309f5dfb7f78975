package smtp

import (
	"bytes"
	"errors"
	"net"
	"regexp"
	"strings"
)

// maxReply bounds the reply to one command, in octets. The reply to a message by LMTP has a
// line of up to 512 octets for each of 100 recipients.
const maxReply = 256 << 10

var errEndlessReply = errors.New("the server's reply does not end")

// wire is a net.Conn between go-smtp and the connection. It bounds replies, and passes on
// each line in the form that go-smtp understands:
//
//   - a code without text gets a blank after it (RFC 5321 §4.2),
//   - the keywords of extensions become upper case (§2.4),
//   - any code of success becomes 250 where go-smtp accepts no other (§4.3.2).
type wire struct {
	net.Conn
	hello string // the command whose reply lists the extensions, with CRLF

	out       []byte // to be passed on
	partial   []byte // the beginning of a line whose end was not read yet
	lastLine  []byte // the last line of a reply, as it was passed on
	replySize int    // octets that were read since the last write
	verb      string // of the last command
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
			// go-smtp returns an error for a line that is too long or has no end.
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
	// After a reply of 3yz, or before any reply, more of the same command is written:
	// the message of DATA, or a response of AUTH.
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

// refusedLHLO returns the error of a server that has refused LHLO. go-smtp would go on with
// HELO, as after EHLO, which an SMTP server accepts. But SMTP has one reply to a message, and
// LMTP one for each recipient: go-smtp would wait for the others in vain, and the message
// would be sent again and again.
func (w *wire) refusedLHLO() error {
	code, lines, err := readReply(bytes.NewReader(w.lastLine))
	if err == nil {
		err = replyRefusal("LHLO", code, lines)
	}
	return err
}
