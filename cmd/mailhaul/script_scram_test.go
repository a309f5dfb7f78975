package main

import (
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/xdg-go/scram"
)

// scramServer is the server's side of SCRAM-SHA-256-PLUS (RFC 7677), and of
// SCRAM-SHA-256 for a client that did not see -PLUS.
type scramServer struct {
	channel tls.ConnectionState
	own     tls.Certificate
	// endPoint knows no other channel binding than tls-server-end-point.
	endPoint bool
	success  func() error
	failed   error

	talk    *scram.ServerConversation
	refused bool
}

// Next implements sasl.Server.
func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case s.refused:
		return nil, true, s.failed
	case response == nil:
		return []byte{}, false, nil
	case s.talk == nil && s.endPoint && !strings.HasPrefix(string(response), "p=tls-server-end-point,"):
		s.refused = true
		return []byte("e=unsupported-channel-binding-type"), false, nil
	case s.talk == nil:
		if s.talk, err = s.converse(); err != nil {
			return nil, true, err
		}
	case s.talk.Done():
		return nil, true, s.success()
	}
	said, err := s.talk.Step(string(response))
	if err != nil && said == "" {
		return nil, true, s.failed
	}
	s.refused = err != nil
	return []byte(said), false, nil
}

// converse begins a conversation that is bound to the channel: by tls-exporter, or by
// tls-server-end-point before TLS 1.3.
func (s *scramServer) converse() (*scram.ServerConversation, error) {
	binding, err := scram.NewTLSExporterBinding(&s.channel)
	if s.channel.Version < tls.VersionTLS13 || s.endPoint {
		var leaf *x509.Certificate
		if leaf, err = x509.ParseCertificate(s.own.Certificate[0]); err == nil {
			binding, err = scram.NewTLSServerEndpointBinding(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
		}
	}
	if err != nil {
		return nil, err
	}
	client, err := scram.SHA256.NewClient("ada", password, "")
	if err != nil {
		return nil, err
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "mailserver", Iters: 4096})
	if err != nil {
		return nil, err
	}
	srv, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return stored, nil })
	if err != nil {
		return nil, err
	}
	return srv.NewConversationWithChannelBindingRequired(binding), nil
}
