package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// readGreeting reads the greeting of the server. The error is a *ReplyError if the server
// refuses the connection.
func readGreeting(conn net.Conn) error {
	code, lines, err := readReply(conn)
	if err != nil {
		return &remote.ReachError{Err: err}
	}
	return replyRefusal("", code, lines)
}

// replyRefusal returns the error of a reply to verb; nil if it is a reply of success.
func replyRefusal(verb string, code int, lines []string) error {
	if code/100 == 2 {
		return nil
	}
	return asReplyError(verb, &gosmtp.SMTPError{Code: code, Message: strings.Join(lines, "\n")})
}

// helloVerb returns the verb of the first command.
func (s *Sink) helloVerb() string {
	if s.o.LMTP {
		return "LHLO"
	}
	return "EHLO"
}

// startTLS sends EHLO or LHLO and STARTTLS in the clear, and then does the TLS handshake
// (RFC 3207). go-smtp could do that for SMTP, but not for LMTP.
func (s *Sink) startTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
	extensions, err := command(conn, s.helloVerb(), s.o.Hello)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(extensions, isStartTLS) {
		return nil, remote.ErrNotEncrypted
	}
	_, err = command(conn, "STARTTLS")
	if r, ok := errors.AsType[*ReplyError](err); ok && r.isPermanent() {
		return nil, fmt.Errorf("%w: %w", remote.ErrNotEncrypted, err)
	}
	if err != nil {
		return nil, err
	}
	return s.o.Server.Secure(ctx, conn)
}

func isStartTLS(extension string) bool {
	return strings.EqualFold(strings.TrimSpace(extension), "STARTTLS")
}

// command sends a command in the clear, and returns the text of the reply, line by line. The
// error is a *ReplyError if the server refuses the command.
func command(conn net.Conn, verb string, args ...string) (lines []string, err error) {
	line := strings.Join(append([]string{verb}, args...), " ") + "\r\n"
	if _, err := io.WriteString(conn, line); err != nil {
		return nil, err
	}
	code, lines, err := readReply(conn)
	if err != nil {
		return nil, err
	}
	return lines, replyRefusal(verb, code, lines)
}

const (
	maxLine  = 2000 // octets in a line of a reply; RFC 5321 §4.5.3.1.5 allows 512
	maxLines = 200  // lines of a reply
)

// readReply reads a reply, and no octet after it: that would be lost to TLS. lines is the
// text without the codes.
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
