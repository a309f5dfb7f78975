package mech

import (
	"crypto/tls"
	"errors"

	"github.com/xdg-go/scram"
)

// Rebind reports whether a login that failed with err may go through by another
// channel binding, and sets EndPoint for that. Both bind to the server that we
// talk to, and tls-exporter is young.
func (c *Credentials) Rebind(err error) bool {
	if !errors.Is(err, ErrBinding) || c.EndPoint || c.TLS == nil || c.TLS.Version < tls.VersionTLS13 {
		return false
	}
	c.EndPoint = true
	return true
}

// channelBinding returns what the login is to be bound to (RFC 5056): to key
// material of the handshake (RFC 9266) or to the server's certificate (RFC 5929
// §4). There is no tls-unique: TLS 1.3 lacks it, and before it three handshakes
// in a row can make two connections agree (RFC 7627 §1).
func channelBinding(state *tls.ConnectionState, endPoint bool) (scram.ChannelBinding, error) {
	if state == nil {
		return scram.ChannelBinding{}, errors.New("there is no channel to bind to without TLS")
	}
	// Before TLS 1.3 the exporter is unique only with an extension, and servers
	// do not expect it (RFC 9266 §3).
	if endPoint || state.Version < tls.VersionTLS13 {
		return scram.NewTLSServerEndpointBinding(state)
	}
	return scram.NewTLSExporterBinding(state)
}
