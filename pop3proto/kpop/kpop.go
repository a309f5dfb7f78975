// Package kpop opens a KPOP connection: POP3 behind an exchange of Kerberos V5
// messages, which names the user before the server greets. No RFC has it; it
// is what krb5_sendauth of MIT's library does, with the service pop and the
// version KPOPV1.0, on port 1109.
//
// It proves each side to the other and protects nothing that follows.
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

// Port is where servers have KPOP.
const Port = 1109

// Options are who asks whom, with what.
type Options struct {
	// Host is the server's name, as its principal pop/HOST has it.
	Host string
	// User is whose key is in Kerberos.Keytab. A credential cache has a user
	// of its own.
	User     string
	Kerberos mech.Kerberos
}

// The two messages by which sendauth and its use here are known.
var versions = [...]string{"KRB5_SENDAUTH_V1.0\x00", "KPOPV1.0\x00"}

// maxMessage bounds what a server may send. A proof has a hundred bytes or
// two, a refusal those and a sentence.
const maxMessage = 16 << 10

// Authenticate proves to the server behind conn who the user is, and has it
// prove itself. The greeting is then still to come. It ends when ctx does, and
// leaves conn without a deadline.
//
// Errors are *mech.TicketError if there is no ticket, *RefusedError if the
// server does not want it, mech.ErrUnproven if the server is not the one that
// the ticket is for, ErrNotKPOP if it speaks something else; any other is of
// the connection. After an error conn is of no use.
func Authenticate(ctx context.Context, conn net.Conn, o Options) error {
	x, err := o.Kerberos.Exchange(ctx, "pop/"+o.Host, o.User)
	if err != nil {
		return err
	}
	// A ctx that ends wakes whoever waits for the server.
	long := time.Unix(1, 0)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(long) })
	err = sendauth(conn, x)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// exchanger is a mech.Exchange.
type exchanger interface {
	Request() ([]byte, error)
	Verify(reply []byte) error
}

// sendauth is the client's side of the dialogue:
//
//	C: version of sendauth, version of the application   S: 0, else 1 or 2
//	C: AP-REQ                                            S: empty, else KRB-ERROR
//	                                                     S: AP-REP
//
// Each message but the first answer comes after its length in four bytes.
func sendauth(conn io.ReadWriter, x exchanger) error {
	var hello []byte
	for _, v := range versions {
		hello = frame(hello, []byte(v))
	}
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case 0:
	case 1, 2:
		return fmt.Errorf("%w: it knows no %q", ErrNotKPOP, bytes.TrimRight([]byte(versions[answer[0]-1]), "\x00"))
	default: // A POP3 server greets whoever comes: +OK.
		return fmt.Errorf("%w: it begins with %q", ErrNotKPOP, answer[:])
	}
	request, err := x.Request()
	if err != nil {
		return err
	}
	if _, err := conn.Write(frame(nil, request)); err != nil {
		return err
	}
	refusal, err := read(conn)
	if err != nil {
		return err
	}
	if len(refusal) > 0 {
		return refused(refusal)
	}
	proof, err := read(conn)
	if err != nil {
		return err
	}
	return x.Verify(proof)
}

// frame appends a message with its length.
func frame(to, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(message))), message...)
}

// read returns the server's next message, and reads nothing beyond it.
func read(conn io.Reader) ([]byte, error) {
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

// ErrNotKPOP is what an error is, in the sense of errors.Is, if the server
// speaks something else.
var ErrNotKPOP = errors.New("the server does not speak KPOP")

// RefusedError is a server's refusal of a ticket.
type RefusedError struct {
	// Code is the reason (RFC 4120 §7.5.9).
	Code int32
	// Text is what the server says of it, at most 200 bytes; may be empty.
	Text string
}

// Error returns the name of the code and the server's words.
func (e *RefusedError) Error() string {
	said := errorcode.Lookup(e.Code)
	if e.Text != "" && !strings.Contains(said, e.Text) {
		said += fmt.Sprintf(" %q", e.Text)
	}
	return "the server refuses the Kerberos ticket: " + said
}

// Hint returns what the user can do about it.
func (e *RefusedError) Hint() string {
	return cmp.Or(mech.KerberosHint(e.Code), "ask the server's operator")
}

// refused reads a KRB-ERROR (RFC 4120 §5.9.1).
func refused(message []byte) error {
	var e messages.KRBError
	if err := e.Unmarshal(message); err != nil {
		return fmt.Errorf("%w: its refusal of the ticket is no Kerberos message", ErrNotKPOP)
	}
	text := bytes.TrimRight([]byte(e.EText), "\x00") // C's
	return &RefusedError{Code: e.ErrorCode, Text: string(text[:min(len(text), 200)])}
}
