package pop3test

import (
	"io"
	"slices"
	"strings"
	"time"
)

// Behaviour is what a server is like, apart from faults. The zero value
// follows the standards.
type Behaviour struct {
	// Greeting is the text of the first line after "+OK".
	Greeting string
	// Timestamp ends the greeting and makes APOP work (RFC 1939 §7), such as
	// "<1896.697170952@dbc.mtview.ca.us>". Without it APOP is unknown.
	Timestamp string
	// Capabilities is what CAPA lists before the login (RFC 2449), a line
	// each; nil stands for all that the server can do.
	Capabilities []string
	// CapabilitiesAfter is what CAPA lists after the login; nil again stands
	// for all that the server can do.
	CapabilitiesAfter []string
	// Without names what the server does not know: commands such as "CAPA",
	// "UIDL", "TOP", "STLS", "USER", and words such as "PIPELINING" or "SASL"
	// that only CAPA has. Pipelined commands are answered in any case.
	Without []string
	// Mechanisms are those of AUTH, in the order in which CAPA lists them: any
	// of PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256 and both with
	// -PLUS, OAUTHBEARER, XOAUTH2 and EXTERNAL; nil stands for PLAIN and
	// LOGIN. EXTERNAL and -PLUS are there only over TLS. An account's password
	// is its access token as well. EXTERNAL lets the user in who is the first
	// host of the client's certificate: that of alice is SelfSigned("alice").
	// Options.TLS must ask for it with tls.RequestClientCert.
	Mechanisms []string
	// LockWait is how long a login waits for a session that still holds the
	// maildrop before it is refused with [IN-USE]: a minute if it is zero,
	// since the server may not have seen the end of the old connection when
	// the new one logs in; not at all if it is negative.
	LockWait time.Duration
}

// without reports whether the server does not know the word.
func (b Behaviour) without(word string) bool { return slices.Contains(b.Without, word) }

// capa answers CAPA (RFC 2449 §5).
func (s *session) capa() io.Reader {
	b := s.behaviour()
	lines := b.Capabilities
	if s.open {
		lines = b.CapabilitiesAfter
	}
	if lines == nil {
		lines = s.capabilities(b)
	}
	var reply strings.Builder
	reply.WriteString("+OK capability list follows\r\n")
	for _, line := range lines {
		reply.WriteString(line + "\r\n")
	}
	reply.WriteString(".\r\n")
	return strings.NewReader(reply.String())
}

// capabilities is all that the server can do now.
func (s *session) capabilities(b Behaviour) []string {
	all := []string{
		"TOP", "UIDL", "USER", "SASL " + strings.Join(s.mechanisms(b), " "), "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE",
		"UTF8", "LOGIN-DELAY 0", "EXPIRE NEVER", "IMPLEMENTATION pop3test",
	}
	if !s.secure && !s.open {
		all = append(all, "STLS") // RFC 2595 §4: only where it can be used
	}
	return slices.DeleteFunc(all, func(line string) bool {
		word, _, _ := strings.Cut(line, " ")
		return b.without(word) || word == "SASL" && b.without("AUTH")
	})
}
