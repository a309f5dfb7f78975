package pop3test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/xdg-go/scram"
)

// scram is RFC 5802 and RFC 7677. A server that has -PLUS refuses a client
// that could bind the channel and saw no -PLUS (RFC 5802 §6).
func (s *session) scram(name string) step {
	return func(first string) io.Reader {
		hash := scram.SHA256
		if name == "SCRAM-SHA-1" {
			hash = scram.SHA1
		}
		srv, err := hash.NewServer(func(user string) (scram.StoredCredentials, error) {
			s.name(user)
			return s.scramCredentials(hash)
		})
		if err != nil {
			return text("-ERR " + err.Error())
		}
		talk := srv.NewConversation()
		if slices.ContainsFunc(s.mechanisms(s.behaviour()), isPlus) {
			binding, err := s.binding(first)
			if err != nil {
				return text("-ERR " + err.Error())
			}
			talk = srv.NewConversationWithChannelBinding(binding)
		}
		challenge, err := talk.Step(first)
		if err != nil {
			return s.scramRefuse(challenge)
		}
		return s.ask(challenge, func(final string) io.Reader {
			proof, err := talk.Step(final)
			if err != nil {
				return s.scramRefuse(proof)
			}
			return s.ask(proof, func(string) io.Reader {
				return s.login(func(string) bool { return true })
			})
		})
	}
}

// scramRefuse says why in the exchange if it is about the channel; whether
// user and password are known is for the last reply.
func (s *session) scramRefuse(why string) io.Reader {
	refused := text("-ERR [AUTH] wrong user or password")
	if strings.Contains(why, "channel-binding") {
		return s.ask(why, func(string) io.Reader { return refused })
	}
	return refused
}

// scramCredentials is what a server would keep instead of the password.
func (s *session) scramCredentials(hash scram.HashGeneratorFcn) (scram.StoredCredentials, error) {
	if s.maildrop == nil {
		return scram.StoredCredentials{}, errors.New("no such user")
	}
	var password string
	s.maildrop.accepts(func(pass string) bool {
		password = pass
		return true
	})
	client, err := hash.NewClient(s.user, password, "")
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "pop3test" + s.user, Iters: 4096})
}

// binding is the server's end of the channel, of the type that the client
// names, and of tls-exporter if it names none.
func (s *session) binding(first string) (scram.ChannelBinding, error) {
	state := s.tlsState()
	if !strings.HasPrefix(first, "p=tls-server-end-point,") {
		return scram.NewTLSExporterBinding(&state)
	}
	own, err := x509.ParseCertificate(s.srv.tls.Certificates[0].Certificate[0])
	if err != nil {
		return scram.ChannelBinding{}, err
	}
	return scram.NewTLSServerEndpointBinding(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}})
}

// tlsState is empty without TLS.
func (s *session) tlsState() tls.ConnectionState {
	if conn, ok := s.conn.(*tls.Conn); ok {
		return conn.ConnectionState()
	}
	return tls.ConnectionState{}
}
