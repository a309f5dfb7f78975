package mech

import "slices"

// Proof is what a mechanism needs to prove the user's identity.
type Proof string

// The kinds of Proof.
const (
	Password    Proof = "password"    // Credentials.Password
	Token       Proof = "token"       // Credentials.Token, of OAuth 2.0
	Certificate Proof = "certificate" // a client certificate, sent in the TLS handshake
	Ticket      Proof = "ticket"      // a Kerberos ticket, from Credentials.Kerberos
)

// Info describes a mechanism.
type Info struct {
	// Name is the registered name, in lower case.
	Name string
	// Needs is what the user must have.
	Needs Proof
	// Reveals means that the password or token is sent to the server, and on an
	// unencrypted connection to anyone who listens.
	Reveals bool
	// NeedsTLS means that the mechanism works only over TLS.
	NeedsTLS bool
	// OnlyNamed means that the mechanism must not be used unless the user asks for
	// it by name.
	OnlyNamed bool
}

// mechanisms lists the mechanisms, the strongest on an encrypted connection first.
var mechanisms = []Info{
	// A private key signs the handshake and never leaves the client: there is
	// nothing to steal, to guess or to relay.
	{Name: "external", Needs: Certificate, NeedsTLS: true},
	// The password is not sent, the server proves its identity, and the client's
	// proof is valid on this TLS connection only, so that an attacker in the
	// middle cannot relay it, even with a certificate that we trust. That matters
	// more than the hash: no attack on SHA-1 extends to HMAC and PBKDF2.
	{Name: "scram-sha-256-plus", Needs: Password, NeedsTLS: true},
	{Name: "scram-sha-1-plus", Needs: Password, NeedsTLS: true},
	// Both sides prove their identity with the help of a trusted third party, and
	// nothing that is sent allows guessing a password.
	{Name: "gssapi", Needs: Ticket},
	// Like -PLUS, but an attacker in the middle can relay the proof.
	{Name: "scram-sha-256", Needs: Password},
	{Name: "scram-sha-1", Needs: Password},
	// The token is sent, but it expires, gives access to mail only and can be
	// revoked. Only OAUTHBEARER has a standard (RFC 7628).
	{Name: "oauthbearer", Needs: Token, Reveals: true},
	{Name: "xoauth2", Needs: Token, Reveals: true},
	// The password is sent, protected by TLS. The server may store a slow hash of
	// it.
	{Name: "plain", Needs: Password, Reveals: true},
	{Name: "login", Needs: Password, Reveals: true}, // like PLAIN, without a standard
	// The password is not sent, but millions of guesses a second can be checked
	// against its MD5, the server must store the equivalent of the password, and
	// does not prove its identity (RFC 6151, draft-ietf-sasl-crammd5-to-historic).
	{Name: "cram-md5", Needs: Password},
	// Like CRAM-MD5 but mutual, and so complex that few implementations
	// interoperate (RFC 6331 moves it to historic).
	{Name: "digest-md5", Needs: Password, OnlyNamed: true},
}

// Strongest returns the mechanisms, the strongest first. For an unencrypted
// connection, it omits those that need TLS, and those that reveal a password or token
// come last.
func Strongest(encrypted bool) []Info {
	all := slices.Clone(mechanisms)
	if encrypted {
		return all
	}
	all = slices.DeleteFunc(all, func(m Info) bool { return m.NeedsTLS })
	slices.SortStableFunc(all, func(a, b Info) int {
		switch {
		case a.Reveals == b.Reveals:
			return 0
		case a.Reveals:
			return 1
		}
		return -1
	})
	return all
}
