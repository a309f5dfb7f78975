// Package mech has the SASL mechanisms (RFC 4422) with which a mail client
// logs in, each as a sasl.Client of go-sasl: for POP3 (RFC 5034), IMAP (RFC
// 9051 §6.2.2) and SMTP (RFC 4954) alike.
//
// Strongest lists them in the order in which to choose, and New makes one:
//
//	m, err := mech.New(ctx, "scram-sha-256", mech.Credentials{User: "alice", Password: "…"})
//	if err != nil { … }
//	err = client.Authenticate(ctx, m)
//
// In SCRAM, DIGEST-MD5 and GSSAPI the server proves who it is, too. It may
// say that the login succeeded and leave its proof out; only the mechanism
// knows. These, and the mechanisms of OAuth, therefore have a method
//
//	Done(reply error) error
//
// which is to be called with the server's last word, nil for success, and
// returns what to make of it. pop3proto.Client.Authenticate does so; with
// other protocols call it after the login.
//
// No error holds a password or a token. What an error quotes of a server is
// bounded, and a secret in it is masked.
package mech
