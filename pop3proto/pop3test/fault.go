package pop3test

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
)

// Exchange is one command and its reply, as a Fault sees it.
type Exchange struct {
	// Session is the number of this session, from 1: among the connections of
	// the server for a fault of the server, among the sessions of the
	// maildrop for a fault of a maildrop.
	Session int
	// User is the user that the client has named so far.
	User string
	// Verb is the command in upper case, or Greeting, Response or Login.
	Verb string
	// Args is the rest of the line, secrets included. For Login it is the
	// user, for Response the whole line.
	Args string
	// Nth counts the commands of this verb in this session, from 1.
	Nth int
	// UID is that of the message which the command names, if it names one.
	UID string
	// Sent is how many bytes the session had sent before this reply, those
	// of TLS itself not counted.
	Sent int64
	// Reply is what is about to be sent: all its bytes, from the status line
	// to the final dot. It is nil until Act was called. An End as its last
	// error ends the session.
	Reply io.Reader

	s    *session
	act  func(*Exchange) io.Reader
	rest []order
	view view
}

// order is a fault and the number by which it knows the session.
type order struct {
	fault   Fault
	session int
}

func (x *Exchange) ordered(faults []Fault, session int) {
	for _, f := range faults {
		x.rest = append(x.rest, order{f, session})
	}
}

// Act has the server act on the command and prepare Reply, with the faults
// that were ordered later applied. Without it the command has no effect.
func (x *Exchange) Act() {
	if len(x.rest) == 0 {
		x.Reply = x.act(x)
		return
	}
	next := x.rest[0]
	x.rest = x.rest[1:]
	mine := x.Session
	defer func() { x.Session = mine }()
	x.Session = next.session
	if !next.fault.strikes(x) {
		x.Act()
		return
	}
	next.fault.do(x)
	if x.Reply == nil {
		x.Reply = strings.NewReader("")
	}
}

// Wait sends what was sent so far on its way and waits for one receive from
// event. It returns false if the server was closed meanwhile.
func (x *Exchange) Wait(event <-chan struct{}) bool {
	x.s.w.Flush()
	select {
	case <-event:
		return true
	case <-x.s.srv.done:
		return false
	}
}

// End says how a session ends. As the last error of a reply it ends the
// session once the bytes before it are sent.
type End int

const (
	// HangUp closes the connection in good order, with a FIN and over TLS
	// with a close_notify before it.
	HangUp End = iota
	// Reset aborts the connection with an RST. Bytes sent before may be lost,
	// too, if the client has not read them yet.
	Reset
	// Hang keeps the connection and the maildrop's lock and says nothing more
	// until the client goes away or the server is closed.
	Hang
)

// Error returns what the server does.
func (e End) Error() string {
	return [...]string{"hangs up", "resets the connection", "says nothing more"}[e]
}

// Fault is a deviation to order with Server.Order or Maildrop.Order. The
// methods that limit one return a copy.
type Fault struct {
	when []func(*Exchange) bool
	do   func(*Exchange)
}

// On returns a fault for the commands of one verb; with verb "" for all
// commands and the greeting. do is called in place of the server's action,
// which it may have by calling Act. It may replace or wrap Reply. What it
// waits for, it waits for with Wait, or else Server.Close hangs.
func On(verb string, do func(*Exchange)) Fault {
	return Fault{do: do}.When(func(x *Exchange) bool {
		// Login is part of another command, whose reply is its reply.
		return x.Verb == verb || verb == "" && x.Verb != Login
	})
}

func (f Fault) strikes(x *Exchange) bool {
	for _, when := range f.when {
		if !when(x) {
			return false
		}
	}
	return true
}

// When limits the fault to exchanges for which when returns true. It is
// called before the server acts, and only if all earlier limits let it pass.
func (f Fault) When(when func(*Exchange) bool) Fault {
	f.when = append(slices.Clip(f.when), when)
	return f
}

// Session limits the fault to the sessions with these numbers.
func (f Fault) Session(numbers ...int) Fault {
	return f.When(func(x *Exchange) bool { return slices.Contains(numbers, x.Session) })
}

// UID limits the fault to commands that name a message with that UID.
func (f Fault) UID(uid string) Fault {
	return f.When(func(x *Exchange) bool { _, named := x.s.number(x.Args); return named && x.UID == uid })
}

// Nth limits the fault to the n-th command of its verb in a session.
func (f Fault) Nth(n int) Fault {
	return f.When(func(x *Exchange) bool { return x.Nth == n })
}

// Times limits the fault to the first n exchanges that all limits before it
// let pass, over all sessions.
func (f Fault) Times(n int) Fault {
	var struck atomic.Int64
	return f.When(func(*Exchange) bool { return struck.Add(1) <= int64(n) })
}
