package pop3test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ReplyErr answers "-ERR text" without acting. To the greeting and to QUIT it
// hangs up as well: after QUIT nothing is deleted (RFC 1939 §6).
func ReplyErr(verb, words string) Fault {
	return On(verb, func(x *Exchange) {
		x.Reply = text("-ERR " + words)
		if verb == Greeting || verb == "QUIT" {
			x.Reply = io.MultiReader(x.Reply, ending{HangUp})
		}
	})
}

// KeepAtQuit keeps the messages for which keep returns true although they
// were to be deleted, deletes the others and answers -ERR to QUIT (RFC 1939
// §6: some or none of the deleted messages were removed).
func KeepAtQuit(keep func(uid string) bool) Fault {
	return On("QUIT", func(x *Exchange) {
		for i, msg := range x.s.messages {
			if keep(msg.uid) {
				delete(x.s.deleted, i)
			}
		}
		x.Act()
		x.Reply = io.MultiReader(text("-ERR some deleted messages not removed"), ending{HangUp})
	})
}

// CutAfter ends each session once it has sent k bytes in all. Limit it with
// Session, not with Times: it strikes at every reply.
func CutAfter(k int64, end End) Fault {
	return On("", func(x *Exchange) {
		x.Act()
		x.Reply = &cut{x.Reply, k - x.Sent, end}
	})
}

// CutIn ends the session after k bytes of the reply to verb, if it is as
// long.
func CutIn(verb string, k int64, end End) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = &cut{x.Reply, k, end}
	})
}

// Ignore ends the session instead of acting on verb.
func Ignore(verb string, end End) Fault {
	return On(verb, func(x *Exchange) { x.Reply = ending{end} })
}

// LoseReply acts on verb, but ends the session without the reply: after QUIT
// the messages are deleted and the client cannot know.
func LoseReply(verb string, end End) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = ending{end}
	})
}

// Hold acts on verb but holds the reply back until one receive from until.
func Hold(verb string, until <-chan struct{}) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		if !x.Wait(until) {
			x.Reply = ending{HangUp}
		}
	})
}

// Trickle sends the reply to verb one byte a tick.
func Trickle(verb string, tick <-chan struct{}) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = &trickle{x.Reply, x, tick}
	})
}

// Prepend sends unsolicited bytes before the reply to verb.
func Prepend(verb, wire string) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = io.MultiReader(strings.NewReader(wire), x.Reply)
	})
}

// Append sends unsolicited bytes behind the reply to verb.
func Append(verb, wire string) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = io.MultiReader(x.Reply, strings.NewReader(wire))
	})
}

// InjectAfterSTLS sends plain text right behind the reply to STLS and before
// the handshake, in one piece with it: what an attacker on the path does to a
// client that keeps its read buffer.
func InjectAfterSTLS(wire string) Fault {
	return On("STLS", func(x *Exchange) {
		x.Reply = io.MultiReader(text("+OK begin TLS"), strings.NewReader(wire), &upgrade{x.s})
	})
}

// Replace sends wire in place of the reply to verb, after acting.
func Replace(verb, wire string) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = strings.NewReader(wire)
	})
}

// EndlessLine answers verb with a status line that never ends.
func EndlessLine(verb string) Fault {
	return On(verb, func(x *Exchange) {
		x.Reply = io.MultiReader(strings.NewReader("+OK "), &chunks{next: func(b []byte) []byte {
			return append(b, bytes.Repeat([]byte("x"), 4<<10)...)
		}})
	})
}

// EndlessListing answers verb with lines "n n", n counting from 1, that never
// end in a dot.
func EndlessListing(verb string) Fault {
	return On(verb, func(x *Exchange) {
		n := 0
		x.Reply = io.MultiReader(text("+OK"), &chunks{next: func(b []byte) []byte {
			for len(b) < 4<<10 {
				n++
				b = fmt.Appendf(b, "%d %d\r\n", n, n)
			}
			return b
		}})
	})
}

// DropAhead has the server lose what was sent together with one of the verbs, behind
// it, as one that empties its buffer before it waits for a command.
func DropAhead(verbs ...string) Fault {
	return onVerbs(func(x *Exchange) {
		x.Act()
		x.s.r.Discard(x.s.r.Buffered())
	}, verbs...)
}

// HangUpAhead has the server hang up over one of the verbs if more was sent together
// with it.
func HangUpAhead(verbs ...string) Fault {
	return onVerbs(func(x *Exchange) {
		if x.s.r.Buffered() > 0 {
			x.Reply = ending{HangUp}
		} else {
			x.Act()
		}
	}, verbs...)
}

// WrongSizes has STAT, LIST and RETR announce size's result in place of a
// message's true size in octets.
func WrongSizes(size func(uid string, octets int64) int64) Fault {
	return onVerbs(func(x *Exchange) {
		x.view.size = size
		x.Act()
	}, "STAT", "LIST", "RETR")
}

// PartialListing has STAT, LIST and UIDL leave out the messages for which
// shown returns false; their numbers are left out, too.
func PartialListing(shown func(uid string) bool) Fault {
	return onVerbs(func(x *Exchange) {
		x.view.shown = shown
		x.Act()
	}, "STAT", "LIST", "UIDL")
}

// EmptyListing has STAT, LIST and UIDL show an empty maildrop.
func EmptyListing() Fault { return PartialListing(func(string) bool { return false }) }

// NoFinalCRLF ends the replies to verb, RETR or TOP, in a dot that follows
// the last line without CRLF between them.
func NoFinalCRLF(verb string) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = &unended{src: bufio.NewReader(x.Reply)}
	})
}

// BareLF has the server end every line in a bare LF, as if it knew no better,
// and take commands that do.
func BareLF() Fault {
	return On("", func(x *Exchange) {
		x.s.lenient = true
		x.Act()
		x.Reply = &bareLF{bufio.NewReader(x.Reply)}
	})
}

func onVerbs(do func(*Exchange), verbs ...string) Fault {
	return On("", do).When(func(x *Exchange) bool { return slices.Contains(verbs, x.Verb) })
}
