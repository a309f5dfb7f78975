package remote

import (
	"fmt"
	"io"
	"strings"
)

// ReadLine reads a line of less than limit octets before TLS, and returns it without its
// line end. It reads no octet beyond the line. So what an attacker adds to the server's last
// line before TLS is read by the TLS handshake, which fails.
func ReadLine(conn io.Reader, limit int) (string, error) {
	var line []byte
	for octet := make([]byte, 1); len(line) < limit; {
		if _, err := io.ReadFull(conn, octet); err != nil {
			return "", err
		}
		if octet[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, octet[0])
	}
	return "", fmt.Errorf("the server sends an endless line: %.40q", line)
}
