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

// Special replies of a script: what the server does instead of replying.
const (
	hangUp = "hang up" // closes the connection
	stall  = "stall"   // neither reads nor writes until the test ends
)

// replyFunc returns the server's reply to a command, without the final CRLF. The
// empty string stands for the usual, positive reply. Sessions are numbered from 1.
//
// Besides the verbs of SMTP there are three more. "greeting" is before the first
// command. "body" is in the middle of a message: after a reply there, the server
// hangs up. "message" is after the end of a message; with LMTP it comes once for
// each recipient, and line is that recipient.
type replyFunc func(session int, verb, line string) string

// scripted is an SMTP or LMTP server that accepts everything except where reply
// says otherwise.
type scripted struct {
	addr       string
	reply      replyFunc // nil for none
	lmtp       bool
	extensions []string // offered in the reply to EHLO or LHLO
	tls        *tls.Config

	mu       sync.Mutex
	sessions int
	received []string      // command lines
	bodies   []string      // messages that were received up to the final dot
	ended    chan struct{} // gets one value for each session that ended
}

// start starts the server. It runs until the test ends. roots trust its
// certificate, which is for example.com and 127.0.0.1.
func (s *scripted) start(t *testing.T) (roots *x509.CertPool) {
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

// serve runs one session and returns the last reply, hangUp or stall.
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
		s.received = append(s.received, line)
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

// readBody reads a message up to the line with a single dot and removes the dots
// that were added (RFC 5321 §4.5.2). Only CRLF ends a line.
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

// commands returns the command lines received so far that begin with verb.
func (s *scripted) commands(verb string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sent []string
	for _, c := range s.received {
		if strings.HasPrefix(c, verb) {
			sent = append(sent, c)
		}
	}
	return sent
}

// wantSentOnlyTo calls send and checks that it named one recipient to the server,
// whose address contains recipient.
func (s *scripted) wantSentOnlyTo(t *testing.T, recipient string, send func()) {
	t.Helper()
	before := len(s.commands("RCPT"))
	send()
	if sent := s.commands("RCPT")[before:]; len(sent) != 1 || !strings.Contains(sent[0], recipient) {
		t.Errorf("sent again to %q", sent)
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

// replyAlways returns a script that gives one reply to every command of a verb whose
// line contains text.
func replyAlways(command, text, reply string) replyFunc {
	return func(_ int, verb, line string) string {
		if verb == command && strings.Contains(line, text) {
			return reply
		}
		return ""
	}
}

// replyOnce returns a script that uses each of the replies once. A key is a verb, or a
// verb and a text that the line must contain, such as "RCPT b@".
func replyOnce(replies map[string]string) replyFunc {
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

// body returns the n-th test message, in wire form.
func body(n int) string { return fmt.Sprintf("Subject: %d\r\n\r\nmessage %d\r\n", n, n) }
