package pop3test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ReplyErr replies "-ERR text" without running the command. For the greeting and QUIT it
// then hangs up: without QUIT nothing is deleted (RFC 1939 §6).
func ReplyErr(verb, text string) Fault {
	return On(verb, func(x *Exchange) {
		x.Reply = replyLine("-ERR " + text)
		if verb == Greeting || verb == "QUIT" {
			x.Reply = io.MultiReader(x.Reply, endReader{HangUp})
		}
	})
}

// KeepAtQuit deletes the marked messages at QUIT, except those for which keep returns
// true, and replies -ERR (RFC 1939 §6: some or none of them were removed).
func KeepAtQuit(keep func(uid string) bool) Fault {
	return On("QUIT", func(x *Exchange) {
		for i, msg := range x.s.messages {
			if keep(msg.uid) {
				delete(x.s.deleted, i)
			}
		}
		x.Act()
		x.Reply = io.MultiReader(replyLine("-ERR some deleted messages not removed"), endReader{HangUp})
	})
}

// afterActing returns a fault that runs the command and replaces its reply.
func afterActing(verb string, replace func(x *Exchange) io.Reader) Fault {
	return On(verb, func(x *Exchange) {
		x.Act()
		x.Reply = replace(x)
	})
}

// CutAfter ends each session after k bytes in all. It applies to every reply, so limit it
// with Session and not with Times.
func CutAfter(k int64, end End) Fault {
	return afterActing("", func(x *Exchange) io.Reader { return &cutReader{x.Reply, k - x.Sent, end} })
}

// CutIn ends the session after k bytes of the reply to verb, unless it is shorter.
func CutIn(verb string, k int64, end End) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader { return &cutReader{x.Reply, k, end} })
}

// Ignore ends the session without running verb.
func Ignore(verb string, end End) Fault {
	return On(verb, func(x *Exchange) { x.Reply = endReader{end} })
}

// LoseReply runs verb, but ends the session without its reply: after QUIT the messages are
// deleted, and the client cannot know.
func LoseReply(verb string, end End) Fault {
	return afterActing(verb, func(*Exchange) io.Reader { return endReader{end} })
}

// Hold runs verb, but sends its reply only after one receive from until.
func Hold(verb string, until <-chan struct{}) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader {
		if !x.Wait(until) {
			return endReader{HangUp}
		}
		return x.Reply
	})
}

// Trickle sends one byte of the reply to verb for each tick.
func Trickle(verb string, tick <-chan struct{}) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader { return &trickleReader{x.Reply, x, tick} })
}

// Prepend sends unsolicited bytes before the reply to verb.
func Prepend(verb, wire string) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader { return io.MultiReader(strings.NewReader(wire), x.Reply) })
}

// Append sends unsolicited bytes after the reply to verb.
func Append(verb, wire string) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader { return io.MultiReader(x.Reply, strings.NewReader(wire)) })
}

// InjectAfterSTLS sends plain text after the reply to STLS and before the handshake,
// without a pause. An attacker does so to a client that keeps its read buffer.
func InjectAfterSTLS(wire string) Fault {
	return On("STLS", func(x *Exchange) {
		x.Reply = io.MultiReader(replyLine("+OK begin TLS"), strings.NewReader(wire), &upgrade{x.s})
	})
}

// Replace runs verb and sends wire instead of the reply.
func Replace(verb, wire string) Fault {
	return afterActing(verb, func(*Exchange) io.Reader { return strings.NewReader(wire) })
}

// EndlessLine replies to verb with a status line that never ends.
func EndlessLine(verb string) Fault {
	return On(verb, func(x *Exchange) {
		x.Reply = io.MultiReader(strings.NewReader("+OK "), &chunkReader{next: func(b []byte) []byte {
			return append(b, bytes.Repeat([]byte("x"), 4<<10)...)
		}})
	})
}

// EndlessListing replies to verb with lines "n n", n counting from 1, without end.
func EndlessListing(verb string) Fault {
	return On(verb, func(x *Exchange) {
		n := 0
		x.Reply = io.MultiReader(replyLine("+OK"), &chunkReader{next: func(b []byte) []byte {
			for len(b) < 4<<10 {
				n++
				b = fmt.Appendf(b, "%d %d\r\n", n, n)
			}
			return b
		}})
	})
}

// DropAhead makes the server discard commands that were sent together with one of the
// verbs, after it, like a server that empties its buffer before it waits for a command.
func DropAhead(verbs ...string) Fault {
	return onVerbs(func(x *Exchange) {
		x.Act()
		x.s.r.Discard(x.s.r.Buffered())
	}, verbs...)
}

// HangUpAhead makes the server hang up at one of the verbs if more was sent together with
// it.
func HangUpAhead(verbs ...string) Fault {
	return onVerbs(func(x *Exchange) {
		if x.s.r.Buffered() > 0 {
			x.Reply = endReader{HangUp}
		} else {
			x.Act()
		}
	}, verbs...)
}

// WrongSizes makes STAT, LIST and RETR report the result of size instead of a message's
// true size in octets.
func WrongSizes(size func(uid string, octets int64) int64) Fault {
	return onVerbs(func(x *Exchange) {
		x.view.size = size
		x.Act()
	}, "STAT", "LIST", "RETR")
}

// PartialListing makes STAT, LIST and UIDL omit the messages for which shown returns false.
// The other messages keep their numbers.
func PartialListing(shown func(uid string) bool) Fault {
	return onVerbs(func(x *Exchange) {
		x.view.isVisible = shown
		x.Act()
	}, "STAT", "LIST", "UIDL")
}

// EmptyListing makes STAT, LIST and UIDL report an empty maildrop.
func EmptyListing() Fault { return PartialListing(func(string) bool { return false }) }

// NoFinalCRLF ends the replies to verb, RETR or TOP, in a dot that follows the last line
// without a CRLF.
func NoFinalCRLF(verb string) Fault {
	return afterActing(verb, func(x *Exchange) io.Reader { return &noFinalCRLFReader{src: bufio.NewReader(x.Reply)} })
}

// BareLF makes the server end every line in a bare LF, and accept commands that do.
func BareLF() Fault {
	return On("", func(x *Exchange) {
		x.s.acceptLF = true
		x.Act()
		x.Reply = &bareLFReader{bufio.NewReader(x.Reply)}
	})
}

func onVerbs(do func(*Exchange), verbs ...string) Fault {
	return On("", do).When(func(x *Exchange) bool { return slices.Contains(verbs, x.Verb) })
}
