package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
)

// client is the smallest POP3 client that can fetch mail. It trusts the server: it
// limits no reply and has no timeouts.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

// dialAndLogin connects to a server, with TLS if cfg is not nil, and logs in. The caller
// closes the client's conn.
func dialAndLogin(addr string, cfg *tls.Config, user string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		conn = tls.Client(conn, cfg)
	}
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 256<<10)}
	if err := c.login(user); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// login reads the greeting and logs in.
func (c *client) login(user string) error {
	if _, err := c.readReply(); err != nil {
		return err
	}
	// RFC 4616: no authorization identity, the user and the password.
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	_, err := c.command("AUTH PLAIN " + plain)
	return err
}

// command sends one or more commands, and reads the reply to the first of them.
func (c *client) command(line string) (string, error) {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return "", err
	}
	return c.readReply()
}

// readReply returns the text after +OK. Any other reply is an error.
func (c *client) readReply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "+OK")
	if !ok {
		return "", fmt.Errorf("the server says %q", line)
	}
	return strings.TrimSpace(text), nil
}

// copyBody copies the rest of a multi-line reply to w, without the line that ends it. It
// does not remove dot-stuffing.
func (c *client) copyBody(w io.Writer) error {
	const end = "\r\n.\r\n"
	const emptyBody = ".\r\n"
	first, err := c.r.Peek(len(emptyBody))
	if err != nil {
		return err
	}
	if string(first) == emptyBody {
		_, err := c.r.Discard(len(emptyBody))
		return err
	}
	for {
		if _, err := c.r.Peek(len(end)); err != nil {
			return err
		}
		b, _ := c.r.Peek(c.r.Buffered())
		if i := bytes.Index(b, []byte(end)); i >= 0 {
			if _, err := w.Write(b[:i+2]); err != nil {
				return err
			}
			_, err := c.r.Discard(i + len(end))
			return err
		}
		n := len(b) - len(end) + 1 // the last bytes may be the beginning of end
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		if _, err := c.r.Discard(n); err != nil {
			return err
		}
	}
}
