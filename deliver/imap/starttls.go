package imap

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/remote"
)

// maxClear bounds the lines before TLS, and the octets of one.
const maxClear = 8 << 10

// startTLS reads the greeting and changes to TLS (RFC 9051 §6.2.1), or closes
// the connection. It reads octet by octet, so that what somebody slipped in
// behind the answer goes to TLS, which cannot take it for anything.
func startTLS(ctx context.Context, conn net.Conn, server *remote.Server) (secure net.Conn, err error) {
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	greeting, err := clearLine(conn)
	if err != nil {
		return nil, err
	}
	// PREAUTH leaves no way to TLS (RFC 9051 §7.1.4): it may be an attack.
	if !hasStatus(greeting, "*", "OK") {
		return nil, fmt.Errorf("%w: it greets with %.200q", remote.ErrNotEncrypted, greeting)
	}
	if _, err := conn.Write([]byte("S1 STARTTLS\r\n")); err != nil {
		return nil, err
	}
	for lines := 0; ; lines++ {
		line, err := clearLine(conn)
		switch {
		case err != nil:
			return nil, err
		case hasStatus(line, "S1", "OK"):
			return server.Secure(ctx, conn)
		case !strings.HasPrefix(line, "* ") || lines > 100:
			return nil, fmt.Errorf("%w: it says %.200q", remote.ErrNotEncrypted, line)
		}
	}
}

func hasStatus(line, tag, status string) bool {
	first, rest, _ := strings.Cut(line, " ")
	word, _, _ := strings.Cut(rest, " ")
	return first == tag && strings.EqualFold(word, status)
}

// clearLine reads a line without its line end.
func clearLine(conn net.Conn) (string, error) {
	var line []byte
	for octet := make([]byte, 1); len(line) < maxClear; {
		if _, err := conn.Read(octet); err != nil {
			return "", hungUp(err)
		}
		if octet[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, octet[0])
	}
	return "", fmt.Errorf("the server sends an endless line: %.40q", line)
}
