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

// ErrNotEncrypted means that the server offers no STARTTLS, or refuses it, on a connection
// that must be encrypted. The packages of the protocols wrap it.
var ErrNotEncrypted = errors.New("the server does not offer STARTTLS")

// ReachError means that the server was not reached: the connection could not be made or
// secured, or the greeting was not that of the protocol. The port may be wrong, or only one
// side uses TLS. The packages of the protocols wrap an error of the greeting in it.
type ReachError struct{ Err error }

// Error returns the text of the cause.
func (e *ReachError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ReachError) Unwrap() error { return e.Err }

// Fail returns a *deliver.Error, with a fault and a hint, for an error of the connection to
// the server. A *deliver.Error is returned unchanged. Fail does not know the replies of a
// protocol, such as that to a wrong password: they are for the package of the protocol.
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

// advise returns the fault and the hint for an error.
func (s *Server) advise(err error) (deliver.Fault, string) {
	if errors.Is(err, context.Canceled) {
		return deliver.FaultTemporary, ""
	}
	if e, ok := errors.AsType[*mech.SecretError](err); ok {
		return adviseSecret(e)
	}
	if hint := s.adviseLogin(err); hint != "" {
		return deliver.FaultOperator, hint
	}
	return s.adviseConnection(err)
}

// adviseSecret returns the fault and the hint if a password or a token cannot be had.
func adviseSecret(e *mech.SecretError) (deliver.Fault, string) {
	if deliver.FaultOf(e.Err) == deliver.FaultMachine {
		return deliver.FaultMachine, "" // a new token is stored before it is used
	}
	if e.Temporary() {
		return deliver.FaultTemporary, cmp.Or(e.Hint(), "the provider of the token could not be asked; try again later")
	}
	return deliver.FaultOperator, cmp.Or(e.Hint(), "check the sink's "+string(e.Needs)+" options")
}

// adviseLogin returns the hint for an error of the login, and "" for any other error. Only
// the user can correct an error of the login.
func (s *Server) adviseLogin(err error) string {
	if e, ok := errors.AsType[*OfferError](err); ok {
		switch {
		case e.Allowed != nil:
			return "allow one that the server offers with auth, or ask the provider; some offer a login only with TLS"
		case s.Token != nil:
			return "the server takes no access token: use one of the password options, or ask the provider"
		default:
			return "servers often offer a login only with TLS: check tls, or leave out user if the server wants no login"
		}
	}
	if hint := mech.Hint(err); hint != "" {
		return hint
	}
	if _, ok := errors.AsType[*mech.OAuthError](err); ok {
		return s.tokenHint()
	}
	if errors.Is(err, mech.ErrRefused) {
		return "check the sink's user and password"
	}
	if _, ok := errors.AsType[*LoginError](err); ok {
		return "allow another way to log in with the sink's auth, or ask the provider"
	}
	return ""
}

// adviseConnection returns the fault and the hint for an error of TLS, the network or this
// machine.
func (s *Server) adviseConnection(err error) (deliver.Fault, string) {
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
	// FaultOperator of FaultOf does not count: EACCES and the like come from a firewall
	// here, and not from a file.
	if deliver.FaultOf(err) == deliver.FaultMachine {
		return deliver.FaultMachine, ""
	}
	if _, ok := errors.AsType[*ReachError](err); ok {
		return deliver.FaultTemporary, s.reachHint()
	}
	return deliver.FaultTemporary, ""
}

// reachHint returns the hint for a server that was not reached.
func (s *Server) reachHint() string {
	protocol := strings.ToUpper(s.Service)
	if s.isUnixSocket() {
		return "check the path of the socket: is this where the server has " + protocol + "?"
	}
	return "check host, port and tls: is this where the server has " + protocol + ", and is the network up?"
}

// tokenHint returns the hint for an access token that the server refuses.
func (s *Server) tokenHint() string {
	return fmt.Sprintf("run mailhaul login %s, with the scope for its protocol; or check its token_command", cmp.Or(s.Name, "for this sink"))
}

// LoginHint returns the hint for a login that the server refuses: password, unless the
// login is with an access token.
func (s *Server) LoginHint(password string) string {
	if s.Token != nil {
		return s.tokenHint()
	}
	return password
}
