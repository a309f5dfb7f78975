package smtp_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a script can have the server do instead of replying.
const (
	hangUp = "hang up"
	stall  = "stall" // neither read nor write any more
)

// scripted is a server that takes everything but what its script says.
type scripted struct {
	addr string
	// reply is asked before the server replies to a command. "" stands for
	// the usual reply. verb is "greeting" before the first one, "body" while
	// the message is on its way, and "message" after its end; there line is the
	// recipient that LMTP replies for. A reply to "body" comes in its middle, and
	// then the server hangs up.
	reply func(session int, verb, line string) string
	lmtp  bool
	// extensions are offered, on lines of their own.
	extensions []string
	tls        *tls.Config

	mu       sync.Mutex
	sessions int
	commands []string
	bodies   []string      // that came to their end
	ended    chan struct{} // gets one for each session that ended
}

// script starts a scripted server. roots trust its certificate, which is for
// example.com and 127.0.0.1.
func script(t *testing.T, s *scripted) (roots *x509.CertPool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); close(done) })
	s.addr, s.ended = l.Addr().String(), make(chan struct{}, 1000)
	w := httptest.NewTLSServer(nil)
	defer w.Close()
	s.tls = &tls.Config{Certificates: w.TLS.Certificates}
	roots = x509.NewCertPool()
	roots.AddCert(w.Certificate())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.sessions++
			n := s.sessions
			s.mu.Unlock()
			go func() {
				if s.serve(conn, n) == stall {
					<-done
				}
				conn.Close()
				s.ended <- struct{}{}
			}()
		}
	}()
	return roots
}

// serve holds one dialogue.
func (s *scripted) serve(conn net.Conn, session int) string {
	r := bufio.NewReader(conn)
	say := func(verb, line, usual string) string {
		reply := usual
		if s.reply != nil {
			if own := s.reply(session, verb, line); own != "" {
				reply = own
			}
		}
		if reply != hangUp && reply != stall {
			_, _ = io.WriteString(conn, reply+"\r\n")
		}
		return reply
	}
	stop := func(reply string) bool {
		return reply == hangUp || reply == stall || strings.HasPrefix(reply, "421")
	}
	if reply := say("greeting", "", "220 here"); stop(reply) {
		return reply
	}
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return hangUp
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, line)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(line, " ")
		usual := "250 2.0.0 fine"
		switch verb {
		case "EHLO", "LHLO":
			usual = "250-here\r\n"
			for _, e := range s.extensions {
				usual += "250-" + e + "\r\n"
			}
			usual += "250 ENHANCEDSTATUSCODES"
		case "MAIL":
			to = nil
		case "DATA":
			usual = "354 go on"
		case "AUTH":
			usual = "235 welcome"
		case "STARTTLS":
			usual = "220 go on"
		}
		reply := say(verb, line, usual)
		if stop(reply) || verb == "QUIT" {
			return reply
		}
		switch {
		case verb == "STARTTLS" && strings.HasPrefix(reply, "220"):
			tc := tls.Server(conn, s.tls)
			if tc.Handshake() != nil {
				return hangUp
			}
			conn, r = tc, bufio.NewReader(tc)
		case verb == "RCPT" && strings.HasPrefix(reply, "250"):
			to = append(to, strings.TrimSuffix(strings.TrimPrefix(line, "RCPT TO:<"), ">"))
		case verb == "DATA" && strings.HasPrefix(reply, "354"):
			if s.reply != nil {
				switch own := s.reply(session, "body", ""); own {
				case "":
				case hangUp, stall:
					return own
				default:
					_, _ = io.CopyN(io.Discard, r, 64<<10)
					_, _ = io.WriteString(conn, own+"\r\n")
					return hangUp
				}
			}
			body, err := readBody(r)
			if err != nil {
				return hangUp
			}
			s.mu.Lock()
			s.bodies = append(s.bodies, body)
			s.mu.Unlock()
			if !s.lmtp {
				to = []string{strings.Join(to, " ")}
			}
			for _, to := range to {
				if reply := say("message", to, "250 2.0.0 queued"); stop(reply) {
					return reply
				}
			}
		}
	}
}

// readBody reads up to the lone dot. Only CRLF ends a line.
func readBody(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for start := true; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if start && line == ".\r\n" {
			return body.String(), nil
		}
		if start {
			line = strings.TrimPrefix(line, ".")
		}
		body.WriteString(line)
		start = strings.HasSuffix(line, "\r\n")
	}
}

// said returns the commands of a verb.
func (s *scripted) said(verb string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var said []string
	for _, c := range s.commands {
		if strings.HasPrefix(c, verb) {
			said = append(said, c)
		}
	}
	return said
}

// onlyTo checks that what send sends goes to one recipient alone.
func (s *scripted) onlyTo(t *testing.T, recipient string, send func()) {
	t.Helper()
	before := len(s.said("RCPT"))
	send()
	if said := s.said("RCPT")[before:]; len(said) != 1 || !strings.Contains(said[0], recipient) {
		t.Errorf("sent again to %q", said)
	}
}

func (s *scripted) wantBodies(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.bodies, want) {
		t.Errorf("the server has %q, want %q", s.bodies, want)
	}
}

func (s *scripted) wantSessions(t *testing.T, want int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions != want {
		t.Errorf("%d sessions, want %d", s.sessions, want)
	}
}

// always returns a script that replies to every command of that verb whose line
// holds the text.
func always(command, text, reply string) func(int, string, string) string {
	return func(_ int, verb, line string) string {
		if verb == command && strings.Contains(line, text) {
			return reply
		}
		return ""
	}
}

// on returns a script that replies once to each of some commands, given as
// "VERB text" where the line holds the text.
func on(replies map[string]string) func(int, string, string) string {
	var mu sync.Mutex
	used := make(map[string]bool)
	return func(_ int, verb, line string) string {
		mu.Lock()
		defer mu.Unlock()
		for when, reply := range replies {
			v, text, _ := strings.Cut(when, " ")
			if v == verb && strings.Contains(line, text) && !used[when] {
				used[when] = true
				return reply
			}
		}
		return ""
	}
}

func body(n int) string { return fmt.Sprintf("Subject: %d\r\n\r\nmessage %d\r\n", n, n) }
