// Package channeltest is what tests put between a client and its server.
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
	// User and Password are what it wants to be told (RFC 1929), if they are
	// not empty.
	User, Password string
	// Code, unless 0, is the reply to every request.
	Code byte
	// Dial connects to where it is asked to; nil is net.Dial.
	Dial func(network, addr string) (net.Conn, error)

	mu    sync.Mutex
	asked []string
}

// Asked returns the host:port of each request so far.
func (s *SOCKS) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Serve answers one client until either side hangs up.
func (s *SOCKS) Serve(conn net.Conn) {
	defer conn.Close()
	c := &client{Reader: bufio.NewReader(conn), conn: conn}
	c.bytes(1) // version
	methods := c.counted()
	if s.User == "" {
		c.say(5, 0)
	} else if !slices.Contains(methods, 2) {
		c.say(5, 0xff)
		return
	} else {
		c.say(5, 2)
		c.bytes(1)
		if user, password := c.counted(), c.counted(); string(user) != s.User || string(password) != s.Password {
			c.say(1, 1)
			return
		}
		c.say(1, 0)
	}
	host := ""
	switch head := c.bytes(4); head[3] {
	case 1:
		host = net.IP(c.bytes(net.IPv4len)).String()
	case 3:
		host = string(c.counted())
	case 4:
		host = net.IP(c.bytes(net.IPv6len)).String()
	}
	port := c.bytes(2)
	if c.err != nil {
		return
	}
	addr := net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))
	s.mu.Lock()
	s.asked = append(s.asked, addr)
	s.mu.Unlock()
	reply := []byte{5, s.Code, 0, 1, 0, 0, 0, 0, 0, 0}
	if s.Code != 0 {
		c.say(reply...)
		return
	}
	dial := s.Dial
	if dial == nil {
		dial = net.Dial
	}
	far, err := dial("tcp", addr)
	if err != nil {
		reply[1] = 4 // host unreachable
		c.say(reply...)
		return
	}
	defer far.Close()
	c.say(reply...)
	go func() {
		defer conn.Close()
		_, _ = io.Copy(conn, far)
	}()
	_, _ = io.Copy(far, c)
}

// client is what a proxy hears. After the first error there is nothing more.
type client struct {
	*bufio.Reader
	conn net.Conn
	err  error
}

func (c *client) bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.err = err
	}
	return b
}

// counted returns bytes behind their number.
func (c *client) counted() []byte { return c.bytes(int(c.bytes(1)[0])) }

func (c *client) say(b ...byte) { _, _ = c.conn.Write(b) }
