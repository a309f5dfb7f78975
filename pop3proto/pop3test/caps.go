package pop3test

import (
	"io"
	"slices"
	"strings"
	"time"
)

// Behaviour describes what a server supports, apart from faults. The zero value follows
// the standards.
type Behaviour struct {
	// Greeting is the text of the first line after "+OK".
	Greeting string
	// Timestamp ends the greeting and enables APOP (RFC 1939 §7), such as
	// "<1896.697170952@dbc.mtview.ca.us>".
	Timestamp string
	// Capabilities are the lines that CAPA lists before the login (RFC 2449); nil
	// means all that the server supports.
	Capabilities []string
	// CapabilitiesAfter are the lines that CAPA lists after the login; nil means all
	// that the server supports.
	CapabilitiesAfter []string
	// Without lists what the server does not support: commands such as "CAPA",
	// "UIDL", "TOP", "STLS" or "USER", and capabilities that are no commands, such as
	// "PIPELINING" or "SASL". The server replies to pipelined commands in any case.
	Without []string
	// Mechanisms are the mechanisms of AUTH, in the order of CAPA: any of PLAIN,
	// LOGIN, CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256 and both with -PLUS, OAUTHBEARER,
	// XOAUTH2 and EXTERNAL; nil means PLAIN and LOGIN. EXTERNAL and -PLUS need TLS. An
	// account's access token is its password. With EXTERNAL, the user is the first
	// host name of the client's certificate, as in SelfSigned("alice"), which
	// Options.TLS must request with tls.RequestClientCert.
	Mechanisms []string
	// LockWait is how long a login waits for another session's lock before it is
	// refused with [IN-USE]. 0 means a minute, since the server may notice the end of
	// the old connection after the new one has logged in; a negative value means no
	// wait.
	LockWait time.Duration
}

// lacks reports whether the server does not support a command or capability.
func (b Behaviour) lacks(word string) bool { return slices.Contains(b.Without, word) }

// capa replies to CAPA (RFC 2449 §5).
func (s *session) capa() io.Reader {
	b := s.behaviour()
	lines := b.Capabilities
	if s.loggedIn {
		lines = b.CapabilitiesAfter
	}
	if lines == nil {
		lines = s.defaultCapabilities(b)
	}
	var reply strings.Builder
	reply.WriteString("+OK capability list follows\r\n")
	for _, line := range lines {
		reply.WriteString(line + "\r\n")
	}
	reply.WriteString(".\r\n")
	return strings.NewReader(reply.String())
}

// defaultCapabilities returns all that the server supports at this point.
func (s *session) defaultCapabilities(b Behaviour) []string {
	lines := []string{
		"TOP", "UIDL", "USER", "SASL " + strings.Join(s.mechanisms(b), " "), "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE",
		"UTF8", "LOGIN-DELAY 0", "EXPIRE NEVER", "IMPLEMENTATION pop3test",
	}
	if !s.secure && !s.loggedIn {
		lines = append(lines, "STLS") // RFC 2595 §4: only where it can be used
	}
	return slices.DeleteFunc(lines, func(line string) bool {
		word, _, _ := strings.Cut(line, " ")
		return b.lacks(word) || word == "SASL" && b.lacks("AUTH")
	})
}
