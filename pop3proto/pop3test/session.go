package pop3test

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
)

// The verbs of exchanges that are not commands.
const (
	// Greeting is the server's first line.
	Greeting = "GREETING"
	// Response is the client's response to a challenge of AUTH.
	Response = "RESPONSE"
	// Login is the part of PASS, APOP or AUTH that checks the password, or another
	// proof of identity, and locks the maildrop.
	Login = "LOGIN"
)

// session is one connection. Only its own goroutine uses it.
type session struct {
	srv         *Server
	raw         *net.TCPConn
	conn        net.Conn // raw, or TLS over it
	secure      bool     // conn is TLS
	r           *bufio.Reader
	w           *bufio.Writer
	buf         [16 << 10]byte // of send
	sent        int64          // bytes
	countedSent int64          // sent at the last round trip
	acceptLF    bool           // accepts commands that end in a bare LF
	verbCounts  map[string]int // commands so far
	record      *sessionRecord

	user     string
	maildrop *Maildrop // of user
	nextStep saslStep  // takes the next line instead of a command, if set

	loggedIn bool // in the TRANSACTION state
	messages []message
	deleted  map[int]bool // by index
}

func newSession(srv *Server, conn *net.TCPConn, number int) *session {
	s := &session{srv: srv, raw: conn, verbCounts: make(map[string]int), record: &sessionRecord{number: number}}
	s.setConn(conn)
	return s
}

// serve runs the session until it ends. If the connection is lost, nothing is deleted
// (RFC 1939 §6).
func (s *session) serve(implicit bool) {
	defer s.raw.Close()
	defer s.releaseMaildrop()
	if implicit && s.handshake() != nil {
		return
	}
	err := s.send(s.runExchange(Greeting, "", s.greet))
	for err == nil {
		var line string
		if line, err = s.readLine(); err == nil {
			err = s.send(s.handleLine(line))
		}
	}
	s.end(err)
}

// handleLine handles one line and returns the reply.
func (s *session) handleLine(line string) io.Reader {
	line, hasCR := strings.CutSuffix(line, "\r")
	if step := s.nextStep; step != nil {
		s.logCommand(maskText)
		return s.runExchange(Response, line, func(*Exchange) io.Reader { return s.handleResponse(line, step) })
	}
	verb, args, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	s.logCommand(maskLine(verb, args, line))
	if verb == "USER" || verb == "APOP" {
		user, _, _ := strings.Cut(args, " ")
		s.setUser(user)
	}
	return s.runExchange(verb, args, func(x *Exchange) io.Reader {
		if !hasCR && !s.acceptLF {
			return replyLine("-ERR commands end in CRLF")
		}
		return s.runCommand(x)
	})
}

// runExchange runs an exchange with the faults that apply, and returns its reply. action
// is what the server does without faults.
func (s *session) runExchange(verb, args string, action func(*Exchange) io.Reader) io.Reader {
	s.verbCounts[verb]++
	x := &Exchange{
		User:   s.user,
		Verb:   verb,
		Args:   args,
		Nth:    s.verbCounts[verb],
		Sent:   s.sent,
		s:      s,
		action: action,
	}
	if n, ok := s.messageIndex(args); ok {
		x.UID = s.messages[n].uid
	}
	s.srv.mu.Lock()
	if m := s.maildrop; m != nil {
		x.addFaults(m.faults, s.record.maildropNumber)
	}
	x.addFaults(s.srv.faults, s.record.number)
	s.srv.mu.Unlock()
	x.Act()
	return x.Reply
}

func (s *session) greet(*Exchange) io.Reader {
	b := s.behaviour()
	words := b.Greeting
	if words == "" {
		words = "POP3 server ready"
	}
	if b.Timestamp != "" {
		words += " " + b.Timestamp
	}
	return replyLine("+OK " + words)
}

// runCommand runs the command of x without faults.
func (s *session) runCommand(x *Exchange) io.Reader {
	if s.behaviour().lacks(x.Verb) {
		return replyLine("-ERR unknown command")
	}
	switch x.Verb {
	case "CAPA":
		return s.capa()
	case "QUIT":
		return s.quit()
	}
	commands := authorizationCommands
	if s.loggedIn {
		commands = transactionCommands
	}
	if f := commands[x.Verb]; f != nil {
		return f(s, x)
	}
	if authorizationCommands[x.Verb] != nil || transactionCommands[x.Verb] != nil {
		return replyLine("-ERR not in this state")
	}
	return replyLine("-ERR unknown command")
}

// behaviour returns the maildrop's Behaviour after the login, and the server's before.
func (s *session) behaviour() Behaviour {
	if !s.loggedIn {
		return s.srv.behaviour
	}
	return s.behaviourOf(s.maildrop)
}

func (s *session) behaviourOf(m *Maildrop) Behaviour {
	s.srv.mu.Lock()
	defer s.srv.mu.Unlock()
	if m.behaviour != nil {
		return *m.behaviour
	}
	return s.srv.behaviour
}

// messageIndex returns the index of the message whose number begins args.
func (s *session) messageIndex(args string) (int, bool) {
	word, _, _ := strings.Cut(args, " ")
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > len(s.messages) {
		return 0, false
	}
	return n - 1, true
}

// releaseMaildrop unlocks the maildrop after a login, and deletes nothing.
func (s *session) releaseMaildrop() {
	if s.loggedIn {
		s.maildrop.release(nil)
		s.loggedIn = false
	}
}

// quit enters the UPDATE state of RFC 1939 §6. It releases the lock before it sends the
// reply, so that a client that reconnects at once can log in.
func (s *session) quit() io.Reader {
	if s.loggedIn {
		var gone []message
		for i, msg := range s.messages {
			if s.deleted[i] {
				gone = append(gone, msg)
			}
		}
		s.maildrop.release(gone)
		s.loggedIn = false
	}
	return io.MultiReader(replyLine("+OK bye"), endReader{HangUp})
}

// maskLine returns the line without secrets.
func maskLine(verb, args, line string) string {
	first, rest, _ := strings.Cut(args, " ")
	switch {
	case verb == "PASS":
		return verb + " " + maskText
	case (verb == "APOP" || verb == "AUTH") && rest != "":
		return verb + " " + first + " " + maskText
	}
	return line
}
