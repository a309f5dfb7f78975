package smtp

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

func readGreeting(conn net.Conn) error {
	code, lines, err := readReply(conn)
	if err != nil {
		return &remote.ReachError{Err: err}
	}
	return replyRefusal("", code, lines)
}

// replyRefusal is the error of a reply to verb, if it is none of success.
func replyRefusal(verb string, code int, lines []string) error {
	if code/100 == 2 {
		return nil
	}
	return asReplyError(verb, &gosmtp.SMTPError{Code: code, Message: strings.Join(lines, "\n")})
}

// helloVerb is the first command.
func (s *Sink) helloVerb() string {
	if s.o.LMTP {
		return "LHLO"
	}
	return "EHLO"
}

// startTLS does what is said in the clear after the greeting, and then the
// handshake (RFC 3207). go-smtp could do it for SMTP, but not for LMTP.
func (s *Sink) startTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
	offered := false
	for _, command := range []string{s.helloVerb() + " " + s.o.Hello, "STARTTLS"} {
		verb, _, _ := strings.Cut(command, " ")
		if verb == "STARTTLS" && !offered {
			return nil, remote.ErrNotEncrypted
		}
		if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
			return nil, err
		}
		code, lines, err := readReply(conn)
		if err != nil {
			return nil, err
		}
		if err := replyRefusal(verb, code, lines); err != nil {
			if verb == "STARTTLS" && code/100 == 5 {
				return nil, fmt.Errorf("%w: %w", remote.ErrNotEncrypted, err)
			}
			return nil, err
		}
		for _, line := range lines {
			offered = offered || strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
		}
	}
	return s.o.Server.Secure(ctx, conn)
}

const (
	maxLine  = 2000 // octets; RFC 5321 §4.5.3.1.5 allows 512
	maxLines = 200
)

// readReply reads a reply of any number of lines, and not a byte more.
func readReply(r io.Reader) (code int, lines []string, err error) {
	for len(lines) < maxLines {
		line, err := remote.ReadLine(r, maxLine)
		if err != nil {
			return 0, nil, err
		}
		if code, err = strconv.Atoi(line[:min(len(line), 3)]); err != nil || code < 200 || code > 599 {
			return 0, nil, fmt.Errorf("the server does not speak SMTP: it says %.200q", line)
		}
		if len(line) == 3 {
			return code, append(lines, ""), nil
		}
		lines = append(lines, line[4:])
		if line[3] != '-' {
			return code, lines, nil
		}
	}
	return 0, nil, errEndlessReply
}
