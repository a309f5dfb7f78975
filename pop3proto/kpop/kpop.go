// Package kpop begins a KPOP connection: POP3 after an exchange of Kerberos V5 messages
// in which client and server prove their identity to each other. [Authenticate] does the
// exchange; a POP3 client can then read the greeting. The rest of the connection is not
// protected.
//
// No RFC describes KPOP. It is krb5_sendauth of MIT's library, with the service pop and
// the version KPOPV1.0, on port 1109.
package kpop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"

	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// Port is the usual TCP port of KPOP.
const Port = 1109

// Options are the parameters of Authenticate.
type Options struct {
	// Host is the server's name, as in its principal pop/HOST.
	Host string
	// User is the default of Kerberos.Principal.
	User string
	// Kerberos tells where to find a ticket.
	Kerberos mech.Kerberos
}

// The versions of sendauth and of the application, which the client sends first.
var versions = [...]string{"KRB5_SENDAUTH_V1.0\x00", "KPOPV1.0\x00"}

// maxMessage limits a server's message. An AP-REP has one or two hundred bytes, and a
// KRB-ERROR a sentence more.
const maxMessage = 16 << 10

// Authenticate proves the user's identity to the server, and the server's to the client.
// It leaves the greeting unread, and conn without a deadline. It returns soon after ctx
// ends, with the cause of ctx.
//
// The error is a *mech.TicketError if there is no ticket, a *RefusedError if the server
// refuses it, mech.ErrUnproven if the server does not prove that the ticket is for it,
// and matches ErrNotKPOP if the server speaks another protocol. Other errors are those
// of conn, which must be closed after any error.
func Authenticate(ctx context.Context, conn net.Conn, o Options) error {
	exchange, err := o.Kerberos.Exchange(ctx, "pop/"+o.Host, o.User)
	if err != nil {
		return err
	}
	past := time.Unix(1, 0) // interrupts reads and writes
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	err = sendauth(conn, exchange)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// exchanger is the part of *mech.Exchange that sendauth needs.
type exchanger interface {
	Request() ([]byte, error)
	Verify(reply []byte) error
}

// sendauth is the client side of the dialogue:
//
//	C: version of sendauth, version of the application   S: 0, or 1 or 2 for an error
//	C: AP-REQ                                            S: empty, or KRB-ERROR
//	                                                     S: AP-REP
//
// The server's first reply is a single byte. A length of four bytes precedes every
// other message.
func sendauth(conn io.ReadWriter, exchange exchanger) error {
	var hello []byte
	for _, v := range versions {
		hello = appendMessage(hello, []byte(v))
	}
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	var reply [1]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return err
	}
	switch reply[0] {
	case 0:
	case 1, 2:
		return fmt.Errorf("%w: it knows no %q", ErrNotKPOP, bytes.TrimRight([]byte(versions[reply[0]-1]), "\x00"))
	default: // such as the + of a POP3 server's greeting
		return fmt.Errorf("%w: it begins with %q", ErrNotKPOP, reply[:])
	}
	request, err := exchange.Request()
	if err != nil {
		return err
	}
	if _, err := conn.Write(appendMessage(nil, request)); err != nil {
		return err
	}
	refusal, err := readMessage(conn)
	if err != nil {
		return err
	}
	if len(refusal) > 0 {
		return parseRefusal(refusal)
	}
	proof, err := readMessage(conn)
	if err != nil {
		return err
	}
	return exchange.Verify(proof)
}

// appendMessage appends the length of a message and the message.
func appendMessage(to, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(message))), message...)
}

// readMessage returns the server's next message, and reads nothing beyond it.
func readMessage(conn io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return nil, fmt.Errorf("%w: it announces a message of %d bytes", ErrNotKPOP, n)
	}
	message := make([]byte, n)
	_, err := io.ReadFull(conn, message)
	return message, err
}

// ErrNotKPOP matches, with errors.Is, errors of a server that speaks another protocol.
var ErrNotKPOP = errors.New("the server does not speak KPOP")

// RefusedError means that the server refused the ticket.
type RefusedError struct {
	// Code is the reason (RFC 4120 §7.5.9).
	Code int32
	// Text is the server's explanation, at most 200 bytes; may be empty.
	Text string
}

// Error contains the name of the code and the server's text.
func (e *RefusedError) Error() string {
	reason := errorcode.Lookup(e.Code)
	if e.Text != "" && !strings.Contains(reason, e.Text) {
		reason += fmt.Sprintf(" %q", e.Text)
	}
	return "the server refuses the Kerberos ticket: " + reason
}

// Hint returns what the user can do about it.
func (e *RefusedError) Hint() string {
	return cmp.Or(mech.KerberosHint(e.Code), "ask the server's operator")
}

// parseRefusal returns the error for a KRB-ERROR (RFC 4120 §5.9.1).
func parseRefusal(message []byte) error {
	var e messages.KRBError
	if err := e.Unmarshal(message); err != nil {
		return fmt.Errorf("%w: its refusal of the ticket is no Kerberos message", ErrNotKPOP)
	}
	text := bytes.TrimRight([]byte(e.EText), "\x00") // of a C string
	return &RefusedError{Code: e.ErrorCode, Text: string(text[:min(len(text), 200)])}
}
