package pop3test

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
)

// Exchange is one command and its reply, as a Fault sees it.
type Exchange struct {
	// Session is the number of this session, from 1: among the server's connections
	// for a fault of the server, or among the maildrop's sessions for a fault of the
	// maildrop.
	Session int
	// User is the user that the client has named, or empty.
	User string
	// Verb is the command in upper case, or Greeting, Response or Login.
	Verb string
	// Args is the rest of the line, including secrets. For Login it is the user, for
	// Response the whole line.
	Args string
	// Nth counts the commands of this verb in this session, from 1.
	Nth int
	// UID is that of the message that the command names, if any.
	UID string
	// Sent is how many bytes the session has sent before this reply, without the
	// overhead of TLS.
	Sent int64
	// Reply is the whole reply, from the status line to the final dot. It is nil
	// before Act. An End as its read error ends the session.
	Reply io.Reader

	s      *session
	action func(*Exchange) io.Reader
	faults []orderedFault
	view   view
}

// orderedFault is a fault with its value of Exchange.Session.
type orderedFault struct {
	fault   Fault
	session int
}

func (x *Exchange) addFaults(faults []Fault, session int) {
	for _, f := range faults {
		x.faults = append(x.faults, orderedFault{f, session})
	}
}

// Act runs the command, with the remaining faults, and sets Reply. A fault that does not
// call it suppresses the command.
func (x *Exchange) Act() {
	if len(x.faults) == 0 {
		x.Reply = x.action(x)
		return
	}
	next := x.faults[0]
	x.faults = x.faults[1:]
	session := x.Session
	defer func() { x.Session = session }()
	x.Session = next.session
	if !next.fault.matches(x) {
		x.Act()
		return
	}
	next.fault.do(x)
	if x.Reply == nil {
		x.Reply = strings.NewReader("")
	}
}

// Wait flushes the connection and waits for one receive from event. It returns false if
// the server is closed first.
func (x *Exchange) Wait(event <-chan struct{}) bool {
	x.s.w.Flush()
	select {
	case <-event:
		return true
	case <-x.s.srv.done:
		return false
	}
}

// End is a way for the server to end a session. As the read error of a reply, it ends
// the session after the bytes before it are sent.
type End int

const (
	// HangUp closes the connection in order, with a FIN and, over TLS, a close_notify
	// before it.
	HangUp End = iota
	// Reset aborts the connection with an RST. Bytes sent before may be lost if the
	// client has not read them.
	Reset
	// Hang keeps the connection and the maildrop's lock, and sends nothing more until
	// the client hangs up or the server is closed.
	Hang
)

// Error describes what the server does.
func (e End) Error() string {
	return [...]string{"hangs up", "resets the connection", "says nothing more"}[e]
}

// Fault is a violation of the standards, to be added with Server.Order or
// Maildrop.Order. Its methods return a copy that applies to fewer exchanges.
type Fault struct {
	conditions []func(*Exchange) bool
	do         func(*Exchange)
}

// On returns a fault for the commands of one verb, or with verb "" for all commands and
// the greeting. The server calls do instead of running the command, which do can run with
// Exchange.Act. do may set or wrap Reply. It must wait with Exchange.Wait only, or
// Server.Close hangs.
func On(verb string, do func(*Exchange)) Fault {
	return Fault{do: do}.When(func(x *Exchange) bool {
		// Login is part of another command, and its reply is the same.
		return x.Verb == verb || verb == "" && x.Verb != Login
	})
}

func (f Fault) matches(x *Exchange) bool {
	for _, when := range f.conditions {
		if !when(x) {
			return false
		}
	}
	return true
}

// When limits the fault to exchanges for which when returns true. when is called before
// the command runs, and only if all earlier limits have passed.
func (f Fault) When(when func(*Exchange) bool) Fault {
	f.conditions = append(slices.Clip(f.conditions), when)
	return f
}

// Session limits the fault to sessions with these numbers.
func (f Fault) Session(numbers ...int) Fault {
	return f.When(func(x *Exchange) bool { return slices.Contains(numbers, x.Session) })
}

// UID limits the fault to commands that name a message with that UID.
func (f Fault) UID(uid string) Fault {
	return f.When(func(x *Exchange) bool { _, named := x.s.messageIndex(x.Args); return named && x.UID == uid })
}

// Nth limits the fault to the n-th command of its verb in a session.
func (f Fault) Nth(n int) Fault {
	return f.When(func(x *Exchange) bool { return x.Nth == n })
}

// Times limits the fault to the first n exchanges, over all sessions, that have passed
// all earlier limits.
func (f Fault) Times(n int) Fault {
	var passed atomic.Int64
	return f.When(func(*Exchange) bool { return passed.Add(1) <= int64(n) })
}
