package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver/remote"
)

// startTLS does what is said in the clear and then the handshake (RFC 3207).
// go-smtp could do it for SMTP, but not for LMTP.
func (s *Sink) startTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
	hello := "EHLO " + s.o.Hello
	if s.o.LMTP {
		hello = "LHLO " + s.o.Hello
	}
	offered := false
	for _, command := range []string{"", hello, "STARTTLS"} {
		if command == "STARTTLS" && !offered {
			return nil, remote.ErrNotEncrypted
		}
		if command != "" {
			if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
				return nil, err
			}
		}
		code, lines, err := readReply(conn)
		if err != nil {
			return nil, err
		}
		if code/100 != 2 {
			verb, _, _ := strings.Cut(command, " ")
			err := replied(verb, &gosmtp.SMTPError{Code: code, Message: strings.Join(lines, "\n")})
			if command != "" && code/100 == 5 {
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

var errNotReply = errors.New("the server does not speak SMTP")

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
		if len(line) < 3 {
			return 0, nil, errNotReply
		}
		if code, err = strconv.Atoi(line[:3]); err != nil || code < 200 || code > 599 {
			return 0, nil, errNotReply
		}
		if len(line) == 3 {
			return code, append(lines, ""), nil
		}
		lines = append(lines, line[4:])
		if line[3] != '-' {
			return code, lines, nil
		}
	}
	return 0, nil, errChatter
}
