package pop3test

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
)

// Greeting and Response are the verbs under which a Fault sees what is not a
// command: the server's first line, and a client's answer to a "+ " of AUTH.
// Login is seen within PASS, APOP or AUTH, whichever the client chose, once
// its proof of identity is there: acting checks it and locks the maildrop.
const (
	Greeting = "GREETING"
	Response = "RESPONSE"
	Login    = "LOGIN"
)

// session is one connection. Its goroutine alone touches it.
type session struct {
	srv      *Server
	raw      *net.TCPConn
	conn     net.Conn // raw, or TLS over it
	secure   bool
	r        *bufio.Reader
	w        *bufio.Writer
	buf      [16 << 10]byte // for send
	sent     int64
	counted  int64 // of sent, what is accounted for in round trips
	lenient  bool  // takes commands that end in a bare LF
	nth      map[string]int
	dialogue *dialogue

	user     string
	maildrop *Maildrop                       // whose user was named
	sasl     func(response string) io.Reader // takes the next line, if set

	open     bool // in the TRANSACTION state
	messages []message
	deleted  map[int]bool // by index
}

func newSession(srv *Server, conn *net.TCPConn, number int) *session {
	s := &session{srv: srv, raw: conn, nth: make(map[string]int), dialogue: &dialogue{number: number}}
	s.use(conn)
	return s
}

// serve runs the session to its end. A connection that is lost voids its
// deletions (RFC 1939 §6).
func (s *session) serve(implicit bool) {
	defer s.raw.Close()
	defer s.unlock()
	if implicit && s.handshake() != nil {
		return
	}
	err := s.send(s.perform(Greeting, "", s.greet))
	for err == nil {
		var line string
		if line, err = s.readLine(); err == nil {
			err = s.send(s.command(line))
		}
	}
	s.end(err)
}

// command acts on one line and returns the reply to it.
func (s *session) command(line string) io.Reader {
	line, ok := strings.CutSuffix(line, "\r")
	if step := s.sasl; step != nil {
		s.note(masked)
		return s.perform(Response, line, func(*Exchange) io.Reader { return s.respond(line, step) })
	}
	verb, args, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	s.note(mask(verb, args, line))
	if verb == "USER" || verb == "APOP" {
		s.user, _, _ = strings.Cut(args, " ")
		s.maildrop = s.attribute(s.user)
	}
	return s.perform(verb, args, func(x *Exchange) io.Reader {
		if !ok && !s.lenient {
			return text("-ERR commands end in CRLF")
		}
		return s.act(x)
	})
}

// perform runs one exchange through the faults that are ordered.
func (s *session) perform(verb, args string, act func(*Exchange) io.Reader) io.Reader {
	s.nth[verb]++
	x := &Exchange{
		User: s.user,
		Verb: verb,
		Args: args,
		Nth:  s.nth[verb],
		Sent: s.sent,
		s:    s,
		act:  act,
	}
	if n, ok := s.number(args); ok {
		x.UID = s.messages[n].uid
	}
	s.srv.mu.Lock()
	if m := s.maildrop; m != nil {
		x.ordered(m.faults, s.dialogue.ordinal)
	}
	x.ordered(s.srv.faults, s.dialogue.number)
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
	return text("+OK " + words)
}

// act is what the command does when no fault interferes.
func (s *session) act(x *Exchange) io.Reader {
	if s.behaviour().without(x.Verb) {
		return text("-ERR unknown command")
	}
	switch x.Verb {
	case "CAPA":
		return s.capa()
	case "QUIT":
		return s.quit()
	}
	commands := authorization
	if s.open {
		commands = transaction
	}
	if f := commands[x.Verb]; f != nil {
		return f(s, x)
	}
	if authorization[x.Verb] != nil || transaction[x.Verb] != nil {
		return text("-ERR not in this state")
	}
	return text("-ERR unknown command")
}

// behaviour is the maildrop's once the client has logged in to one.
func (s *session) behaviour() Behaviour {
	if !s.open {
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

// number returns the index of the message that the first word of args names.
func (s *session) number(args string) (int, bool) {
	word, _, _ := strings.Cut(args, " ")
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > len(s.messages) {
		return 0, false
	}
	return n - 1, true
}

// unlock gives the maildrop back, its deletions void.
func (s *session) unlock() {
	if s.open {
		s.maildrop.release(nil)
		s.open = false
	}
}

// quit enters the UPDATE state of RFC 1939 §6. The lock is released before
// the reply leaves, so that a client that connects again finds it free.
func (s *session) quit() io.Reader {
	if s.open {
		var gone []message
		for i, msg := range s.messages {
			if s.deleted[i] {
				gone = append(gone, msg)
			}
		}
		s.maildrop.release(gone)
		s.open = false
	}
	return io.MultiReader(text("+OK bye"), ending{HangUp})
}

// mask returns the line as it may be logged.
func mask(verb, args, line string) string {
	first, rest, _ := strings.Cut(args, " ")
	switch {
	case verb == "PASS":
		return verb + " " + masked
	case (verb == "APOP" || verb == "AUTH") && rest != "":
		return verb + " " + first + " " + masked
	}
	return line
}
