package imap

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/mailhaul/mailhaul/deliver"
)

// serverReply is a refusal of the server as an error. Its text is quoted and cut.
type serverReply struct {
	kind, code, text string
}

func (r serverReply) Error() string {
	s := "the server says " + r.kind
	if r.code != "" {
		s += fmt.Sprintf(" [%.40s]", escapeCode(r.code))
	}
	if r.text != "" {
		s += fmt.Sprintf(" %.200q", r.text)
	}
	return s
}

// escapeCode escapes characters that a response code must not contain.
func escapeCode(code string) string {
	q := fmt.Sprintf("%q", code)
	return q[1 : len(q)-1]
}

// fail returns a *deliver.Error for the error of a command: a refusal of the server, or
// what broke the connection.
func (ses *session) fail(op string, err error) *deliver.Error {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return e
	}
	if refusal, ok := errors.AsType[*imap.Error](err); ok {
		return ses.refusal(op, refusal)
	}
	if cause := ses.wire.cause(ses.secrets); cause != nil {
		return ses.sink.fail(op, cause)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ses.sink.fail(op, errHungUp)
	}
	// The error of imapclient contains the response that it cannot parse, of any length.
	return ses.sink.fail(op, fmt.Errorf("out of step with the server: %.200q", ses.secrets.Mask(err.Error())))
}

// refusal is Sink.refusal with the secrets of the login masked.
func (ses *session) refusal(op string, err *imap.Error) *deliver.Error {
	said := *err
	said.Text = ses.secrets.Mask(said.Text)
	said.Code = imap.ResponseCode(ses.secrets.Mask(string(said.Code)))
	return ses.sink.refusal(op, &said)
}

// fail returns a *deliver.Error for an error of the network, TLS or the login.
func (s *Sink) fail(op string, err error) *deliver.Error {
	e := *s.server.Fail(op, err)
	e.Target = s.target
	return &e
}

// refuse returns an error that only a person can correct.
func (s *Sink) refuse(op string, err error, hint string) *deliver.Error {
	return &deliver.Error{Fault: deliver.FaultOperator, Target: s.target, Op: op, Err: err, Hint: hint}
}

// hintFolder is the hint for a missing folder.
const hintFolder = "create the folder, or let mailhaul do it with create_folder: true"

// refusal returns a *deliver.Error for a NO, BAD or BYE by its response code (RFC 9051
// §7.1, RFC 9208 §4.3.1, RFC 7889 §4). Without a known code, it is a FaultTemporary.
func (s *Sink) refusal(op string, err *imap.Error) *deliver.Error {
	e := &deliver.Error{
		Target: s.target, Op: op,
		Err: serverReply{string(err.Type), string(err.Code), err.Text},
	}
	if isThrottled(err) {
		e.Hint = "the server takes no more from this user for some hours; a later fetch brings the rest"
		return e
	}
	switch err.Code {
	case imap.ResponseCodeTooBig:
		e.Fault, e.Hint = deliver.FaultMessage, "the server takes no message of this size: have its limit for APPEND raised"
	case imap.ResponseCodeOverQuota:
		e.Fault, e.Hint = deliver.FaultOperator, "make room in the mailbox, or have its quota raised"
	case imap.ResponseCodeTryCreate, imap.ResponseCodeNonExistent:
		if s.create {
			break // the next look creates it
		}
		e.Fault, e.Hint = deliver.FaultOperator, hintFolder
	case imap.ResponseCodeNoPerm:
		e.Fault, e.Hint = deliver.FaultOperator, "have the user given the right to insert into the folder"
	case imap.ResponseCodeCannot:
		e.Fault, e.Hint = deliver.FaultOperator, "the server cannot have a folder of this name: choose another"
	case imap.ResponseCodeContactAdmin, imap.ResponseCodeCorruption:
		e.Fault, e.Hint = deliver.FaultOperator, "tell the operator of the server"
	case imap.ResponseCodePrivacyRequired:
		e.Fault, e.Hint = deliver.FaultOperator, "use tls: implicit or tls: starttls"
	}
	return e
}

// isThrottled reports whether the user has sent as much as the server takes in a day. Gmail
// says so in the text only; its code is that of a full mailbox or says nothing.
func isThrottled(refusal *imap.Error) bool {
	return strings.Contains(refusal.Text, "exceeded command or bandwidth limits")
}

// concernsAllMessages reports whether a temporary refusal concerns every message, or every
// login. If a user has too many connections, Gmail says so in the text only; its code is
// that of a wrong password.
func concernsAllMessages(refusal *imap.Error) bool {
	if isThrottled(refusal) || strings.Contains(refusal.Text, "Too many simultaneous connections") {
		return true
	}
	switch refusal.Code {
	case imap.ResponseCodeUnavailable, imap.ResponseCodeInUse, imap.ResponseCodeLimit, imap.ResponseCodeServerBug,
		imap.ResponseCodeTryCreate, imap.ResponseCodeNonExistent:
		return true
	}
	return false
}

// isOtherThanMissing reports whether the code of a refused folder gives another reason than
// that the folder does not exist.
func isOtherThanMissing(code imap.ResponseCode) bool {
	switch code {
	case "", imap.ResponseCodeNonExistent, imap.ResponseCodeTryCreate:
		return false
	}
	return true
}
