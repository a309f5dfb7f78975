package mech

import (
	"crypto/tls"
	"errors"

	"github.com/xdg-go/scram"
)

// Binding is a way to bind a SCRAM login to the TLS connection (RFC 5056), by
// its registered name. There is no tls-unique: TLS 1.3 lacks it, and before it
// three handshakes in a row can make two connections agree (RFC 7627 §1).
type Binding string

const (
	// TLSExporter binds to key material of the handshake (RFC 9266).
	TLSExporter Binding = "tls-exporter"
	// TLSServerEndPoint binds to the server's certificate (RFC 5929 §4). It
	// helps where TLS ends at a machine before the server.
	TLSServerEndPoint Binding = "tls-server-end-point"
)

// Rebind reports whether a login that failed with err may go through by another
// channel binding, and sets Binding to that. Both bind to the server that we
// talk to, and tls-exporter is young.
func (c *Credentials) Rebind(err error) bool {
	if !errors.Is(err, ErrBinding) || c.Binding != "" || c.TLS == nil || c.TLS.Version < tls.VersionTLS13 {
		return false
	}
	c.Binding = TLSServerEndPoint
	return true
}

// channelBinding returns what the login is to be bound to.
func channelBinding(kind Binding, state *tls.ConnectionState) (scram.ChannelBinding, error) {
	if state == nil {
		return scram.ChannelBinding{}, errors.New("there is no channel to bind to without TLS")
	}
	switch kind {
	case "":
		// Before TLS 1.3 the exporter is unique only with an extension, and
		// servers do not expect it (RFC 9266 §3).
		if state.Version < tls.VersionTLS13 {
			return scram.NewTLSServerEndpointBinding(state)
		}
		return scram.NewTLSExporterBinding(state)
	case TLSExporter:
		return scram.NewTLSExporterBinding(state)
	case TLSServerEndPoint:
		return scram.NewTLSServerEndpointBinding(state)
	}
	return scram.ChannelBinding{}, errors.New("the channel binding is neither tls-exporter nor tls-server-end-point")
}
