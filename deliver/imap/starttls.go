package imap

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/remote"
)

const (
	// maxClear bounds a line before TLS, in octets.
	maxClear = 8 << 10
	// maxUntagged bounds the lines before the answer to STARTTLS.
	maxUntagged = 100
)

// readGreeting reads the greeting and returns it without its line end. The error is a
// *remote.ReachError.
func readGreeting(conn net.Conn) (string, error) {
	line, err := remote.ReadLine(conn, maxClear)
	if err != nil {
		return "", &remote.ReachError{Err: eofAsHangUp(err)}
	}
	if !strings.HasPrefix(line, "* ") {
		return "", &remote.ReachError{Err: fmt.Errorf("the server does not speak IMAP: it greets with %.200q", line)}
	}
	return line, nil
}

// startTLS sends STARTTLS after the greeting, and does the TLS handshake (RFC 9051 §6.2.1).
func startTLS(ctx context.Context, conn net.Conn, greeting string, server *remote.Server) (net.Conn, error) {
	// After PREAUTH, STARTTLS is not allowed (RFC 9051 §7.1.4): it may be an attack.
	if !isOK(greeting, "*") {
		return nil, fmt.Errorf("%w: it greets with %.200q", remote.ErrNotEncrypted, greeting)
	}
	if _, err := conn.Write([]byte("S1 STARTTLS\r\n")); err != nil {
		return nil, err
	}
	for lines := 0; ; lines++ {
		line, err := remote.ReadLine(conn, maxClear)
		switch {
		case err != nil:
			return nil, eofAsHangUp(err)
		case isOK(line, "S1"):
			return server.Secure(ctx, conn)
		case !strings.HasPrefix(line, "* ") || lines > maxUntagged:
			return nil, fmt.Errorf("%w: it says %.200q", remote.ErrNotEncrypted, line)
		}
	}
}

// isOK reports whether a line is an OK response with tag.
func isOK(line, tag string) bool {
	first, rest, _ := strings.Cut(line, " ")
	word, _, _ := strings.Cut(rest, " ")
	return first == tag && strings.EqualFold(word, "OK")
}
