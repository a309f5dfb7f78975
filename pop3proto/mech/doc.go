// Package mech implements the client side of SASL mechanisms (RFC 4422), each as
// a sasl.Client of go-sasl, for POP3 (RFC 5034), IMAP (RFC 9051 §6.2.2) and SMTP
// (RFC 4954).
//
// [Strongest] lists the mechanisms, each described by an [Info], in the order in
// which to choose one. [New] makes a mechanism from its name and [Credentials]:
//
//	m, err := mech.New(ctx, "scram-sha-256", mech.Credentials{User: "alice", Password: "…"})
//	if err != nil { … }
//	err = client.Authenticate(ctx, m)
//
// In SCRAM, DIGEST-MD5 and GSSAPI the server also proves its identity. A server
// may accept the login without that proof, which only the mechanism notices.
// These mechanisms, and those of OAuth, therefore have a method
//
//	Done(reply error) error
//
// which must be called with the server's final reply, nil for success, and returns
// the error of the login. pop3proto.Client.Authenticate does so. With other
// protocols, call it after the login.
//
// The errors [ErrUnproven] and [ErrStripped] match [ErrSuspect]: someone may be
// impersonating the server. [SecretError] and [TicketError] mean that there was
// nothing to log in with. No error contains a password or a token. What an error
// quotes of a server is truncated, and secrets in it are masked.
//
// Each mechanism has a file: scram.go with binding.go, digest.go with
// directives.go, oauth.go, cram.go, login.go, and gssapi.go with exchange.go and
// kerberos.go, which get a ticket and use it; ticket.go says why there is none. PLAIN and EXTERNAL are those of
// go-sasl.
package mech
