package remote

import (
	"fmt"
	"io"
	"strings"
)

// ReadLine reads a line of less than limit octets before TLS, without its line
// end, and not an octet more: what somebody slipped in behind the server's last
// word in the clear goes to TLS, which cannot take it for anything.
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
