// Package channeltest has servers for tests of connections: a SOCKS5 proxy, and a TLS
// server that hangs up.
package channeltest

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
)

// SOCKS is a SOCKS5 proxy (RFC 1928).
type SOCKS struct {
	// User and Password are required of clients (RFC 1929) unless User is empty.
	User, Password string
	// Code, unless 0, is the reply code of every request.
	Code byte
	// Dial connects to the requested address; nil means net.Dial.
	Dial func(network, addr string) (net.Conn, error)

	mu       sync.Mutex
	requests []string
}

// Requests returns the host:port of each request so far.
func (s *SOCKS) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Serve serves one client until either side hangs up.
func (s *SOCKS) Serve(conn net.Conn) {
	defer conn.Close()
	c := &client{Reader: bufio.NewReader(conn), conn: conn}
	if !s.authenticate(c) {
		return
	}
	addr := c.readRequest()
	if c.err != nil {
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, addr)
	s.mu.Unlock()
	dial := s.Dial
	if dial == nil {
		dial = net.Dial
	}
	code := s.Code
	var server net.Conn
	if code == 0 {
		var err error
		if server, err = dial("tcp", addr); err != nil {
			code = 4 // host unreachable
		} else {
			defer server.Close()
		}
	}
	c.write(5, code, 0, 1, 0, 0, 0, 0, 0, 0)
	if code != 0 {
		return
	}
	go func() {
		defer conn.Close()
		_, _ = io.Copy(conn, server)
	}()
	_, _ = io.Copy(server, c)
}

// authenticate negotiates the method, and checks the password if there is one.
func (s *SOCKS) authenticate(c *client) (ok bool) {
	c.read(1) // version
	methods := c.lengthPrefixed()
	switch {
	case s.User == "":
		c.write(5, 0)
		return true
	case !slices.Contains(methods, 2):
		c.write(5, 0xff)
		return false
	}
	c.write(5, 2)
	c.read(1) // version
	user, password := c.lengthPrefixed(), c.lengthPrefixed()
	if string(user) != s.User || string(password) != s.Password {
		c.write(1, 1)
		return false
	}
	c.write(1, 0)
	return true
}

// client is the connection to a client. err is the last read error.
type client struct {
	*bufio.Reader
	conn net.Conn
	err  error
}

func (c *client) read(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.err = err
	}
	return b
}

// lengthPrefixed reads bytes that follow their number.
func (c *client) lengthPrefixed() []byte { return c.read(int(c.read(1)[0])) }

// readRequest returns the requested host:port.
func (c *client) readRequest() (addr string) {
	host := ""
	switch head := c.read(4); head[3] {
	case 1:
		host = net.IP(c.read(net.IPv4len)).String()
	case 3:
		host = string(c.lengthPrefixed())
	case 4:
		host = net.IP(c.read(net.IPv6len)).String()
	}
	port := c.read(2)
	return net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))
}

func (c *client) write(b ...byte) { _, _ = c.conn.Write(b) }
