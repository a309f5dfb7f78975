package mech

import (
	"crypto/tls"
	"errors"

	"github.com/xdg-go/scram"
)

// Rebind reports whether a login that failed with err may succeed with another
// channel binding, and if so sets EndPoint. tls-exporter is recent, and servers may not
// know it; tls-server-end-point binds to the same server.
func (c *Credentials) Rebind(err error) bool {
	if !errors.Is(err, ErrBinding) || c.EndPoint || c.TLS == nil || c.TLS.Version < tls.VersionTLS13 {
		return false
	}
	c.EndPoint = true
	return true
}

// channelBinding returns the channel binding for a login (RFC 5056): tls-exporter
// (RFC 9266) or tls-server-end-point (RFC 5929 §4). tls-unique is not supported: TLS
// 1.3 lacks it, and before TLS 1.3 an attacker can make it equal on two connections
// (triple handshakes, RFC 7627 §1).
func channelBinding(state *tls.ConnectionState, endPoint bool) (scram.ChannelBinding, error) {
	if state == nil {
		return scram.ChannelBinding{}, errors.New("there is no channel to bind to without TLS")
	}
	// Before TLS 1.3, tls-exporter needs an extension to be unique, and servers do
	// not expect it (RFC 9266 §3, §4).
	if endPoint || state.Version < tls.VersionTLS13 {
		return scram.NewTLSServerEndpointBinding(state)
	}
	return scram.NewTLSExporterBinding(state)
}
