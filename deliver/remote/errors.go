package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// ErrNotEncrypted means that the server offers no STARTTLS, or refuses it, on
// a connection that must be encrypted. Packages of protocols wrap it.
var ErrNotEncrypted = errors.New("the server does not offer STARTTLS")

// ReachError means that the server was not reached: the connection could not be
// made or secured, or brought no greeting of the protocol, as at a wrong port or
// where one side wants TLS and the other has none. Packages of protocols wrap
// what becomes of the greeting in it.
type ReachError struct{ Err error }

// Error is that of the cause.
func (e *ReachError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ReachError) Unwrap() error { return e.Err }

// Fail makes a *deliver.Error of what went wrong with the connection to the
// server: whose turn it is, and what the user can do. An error that is a
// *deliver.Error already is returned as it is. Refusals of a protocol's own,
// a wrong password included, are for the protocol's package to tell apart.
func (s *Server) Fail(op string, err error) *deliver.Error {
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		return e
	}
	fault, hint := s.advise(err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the server hung up: %w", err)
	}
	return &deliver.Error{Fault: fault, Target: s.Addr, Op: op, Err: err, Hint: hint}
}

// advise is the one table from errors to whose turn it is and what to do.
func (s *Server) advise(err error) (deliver.Fault, string) {
	if errors.Is(err, context.Canceled) {
		return deliver.FaultTemporary, ""
	}
	if e, ok := errors.AsType[*mech.SecretError](err); ok {
		if deliver.FaultOf(e.Err) == deliver.FaultMachine {
			return deliver.FaultMachine, "" // a new token is kept before it is used
		}
		if e.Temporary() {
			return deliver.FaultTemporary, cmp.Or(e.Hint(), "the provider of the token could not be asked; try again later")
		}
		return deliver.FaultOperator, cmp.Or(e.Hint(), "check the sink's "+string(e.Needs)+" options")
	}
	if e, ok := errors.AsType[*OfferError](err); ok && e.Allowed != nil {
		return deliver.FaultOperator, "allow one that the server offers with auth, or ask the provider; some offer a login only with TLS"
	} else if ok && s.Token != nil {
		return deliver.FaultOperator, "the server takes no access token: use one of the password options, or ask the provider"
	} else if ok {
		return deliver.FaultOperator, "servers often offer a login only with TLS: check tls, or leave out user if the server wants no login"
	}
	if hint := mech.Hint(err); hint != "" {
		return deliver.FaultOperator, hint
	}
	if _, ok := errors.AsType[*mech.OAuthError](err); ok {
		return deliver.FaultOperator, s.tokenHint()
	}
	if errors.Is(err, mech.ErrRefused) {
		return deliver.FaultOperator, "check the sink's user and password"
	}
	if _, ok := errors.AsType[*LoginError](err); ok {
		return deliver.FaultOperator, "allow another way to log in with the sink's auth, or ask the provider"
	}
	if errors.Is(err, ErrNotEncrypted) {
		return deliver.FaultOperator, "try tls: implicit; tls: none would send the mail in the clear"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok && s.Protection() == StartTLS {
		return deliver.FaultOperator, "the server went on in the clear after STARTTLS: do not trust this network; tls: implicit leaves no room for it"
	}
	if a, ok := channel.Advise(err); ok {
		if a.Person {
			return deliver.FaultOperator, a.Hint
		}
		return deliver.FaultTemporary, a.Hint
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return deliver.FaultOperator, "write the server as host:port, or as the absolute path of a UNIX socket"
	}
	if s.isUnixSocket() && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOTSOCK)) {
		return deliver.FaultOperator, "make sure that the server is running and lets mailhaul use its socket"
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return deliver.FaultTemporary, "make sure that the server is running, and check the port"
	}
	// EACCES and the like come from a firewall, and not from a file.
	if deliver.FaultOf(err) == deliver.FaultMachine {
		return deliver.FaultMachine, ""
	}
	if _, ok := errors.AsType[*ReachError](err); ok {
		return deliver.FaultTemporary, s.reachHint()
	}
	return deliver.FaultTemporary, ""
}

func (s *Server) reachHint() string {
	protocol := strings.ToUpper(s.Service)
	if s.isUnixSocket() {
		return "check the path of the socket: is this where the server has " + protocol + "?"
	}
	return "check host, port and tls: is this where the server has " + protocol + ", and is the network up?"
}

func (s *Server) tokenHint() string {
	return fmt.Sprintf("run mailhaul login %s, with the scope for its protocol; or check its token_command", cmp.Or(s.Name, "for this sink"))
}

// LoginHint is what the user can do about a login that the server refuses;
// password is that if it is by a password.
func (s *Server) LoginHint(password string) string {
	if s.Token != nil {
		return s.tokenHint()
	}
	return password
}
