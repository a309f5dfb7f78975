package mech

import "slices"

// Proof is what a mechanism needs of the user.
type Proof string

// The proofs there are.
const (
	Password    Proof = "password"    // Credentials.Password
	Token       Proof = "token"       // Credentials.Token, of OAuth 2.0
	Certificate Proof = "certificate" // a client certificate, shown in the TLS handshake
	Ticket      Proof = "ticket"      // of Kerberos, see Credentials.Kerberos
)

// Info is what there is to know about a mechanism before it is chosen.
type Info struct {
	// Name is the one that IANA registered, in lower case.
	Name string
	// Needs is what the user must have.
	Needs Proof
	// Reveals means that the server, and on an unencrypted connection
	// everybody, learns the password or token.
	Reveals bool
	// NeedsTLS means that it works on an encrypted connection only.
	NeedsTLS bool
	// OnlyNamed means that it is not to be used unless the user asks for it
	// by name.
	OnlyNamed bool
}

// mechanisms are in the order of strength on an encrypted connection.
var mechanisms = []Info{
	// A private key signs the handshake itself and never leaves its place:
	// there is nothing to steal, to guess or to relay.
	{Name: "external", Needs: Certificate, NeedsTLS: true},
	// The password stays here, the server proves itself, and the proof is
	// good on this TLS connection only, so that nobody in the middle can
	// relay it, not even with a certificate that we trust. That outweighs the
	// hash: no attack on SHA-1 reaches HMAC and PBKDF2.
	{Name: "scram-sha-256-plus", Needs: Password, NeedsTLS: true},
	{Name: "scram-sha-1-plus", Needs: Password, NeedsTLS: true},
	// Both sides prove themselves by tickets of a third that both trust, and
	// there is no password whose proof could be guessed at.
	{Name: "gssapi", Needs: Ticket},
	// As -PLUS, but somebody in the middle can relay it.
	{Name: "scram-sha-256", Needs: Password},
	{Name: "scram-sha-1", Needs: Password},
	// The token crosses the connection, but it expires, is good for mail only
	// and can be revoked. OAUTHBEARER is the one with a standard (RFC 7628).
	{Name: "oauthbearer", Needs: Token, Reveals: true},
	{Name: "xoauth2", Needs: Token, Reveals: true},
	// The password crosses the connection, which TLS protects. The server may
	// then keep it as a slow hash.
	{Name: "plain", Needs: Password, Reveals: true},
	{Name: "login", Needs: Password, Reveals: true}, // as PLAIN, without a standard
	// The password does not cross, but its MD5 can be guessed at by millions a
	// second, the server must keep what is as good as the password, and nothing
	// proves the server (RFC 6151, draft-ietf-sasl-crammd5-to-historic).
	{Name: "cram-md5", Needs: Password},
	// As CRAM-MD5 but mutual, and so intricate that few implementations agree
	// (RFC 6331 moves it to historic).
	{Name: "digest-md5", Needs: Password, OnlyNamed: true},
}

// Strongest returns the mechanisms, the strongest first. On a connection that
// is not encrypted those that need TLS are left out, and those that reveal a
// password or token come last.
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
