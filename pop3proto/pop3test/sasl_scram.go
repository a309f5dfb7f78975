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

// scram is the first step of SCRAM (RFC 5802, RFC 7677). A server that offers -PLUS refuses
// a client that supports channel binding but has not seen the offer (RFC 5802 §6).
func (s *session) scram(name string) saslStep {
	return func(first string) io.Reader {
		hash := scram.SHA256
		if name == "SCRAM-SHA-1" {
			hash = scram.SHA1
		}
		srv, err := hash.NewServer(func(user string) (scram.StoredCredentials, error) {
			s.setUser(user)
			return s.scramCredentials(hash)
		})
		if err != nil {
			return replyLine("-ERR " + err.Error())
		}
		conversation := srv.NewConversation()
		if slices.ContainsFunc(s.mechanisms(s.behaviour()), isPlus) {
			binding, err := s.binding(first)
			if err != nil {
				return replyLine("-ERR " + err.Error())
			}
			conversation = srv.NewConversationWithChannelBinding(binding)
		}
		challenge, err := conversation.Step(first)
		if err != nil {
			return s.refuseSCRAM(challenge)
		}
		return s.sendChallenge(challenge, func(final string) io.Reader {
			proof, err := conversation.Step(final)
			if err != nil {
				return s.refuseSCRAM(proof)
			}
			return s.sendChallenge(proof, func(string) io.Reader {
				return s.login(func(string) bool { return true })
			})
		})
	}
}

// refuseSCRAM sends the reason as a challenge if it is the channel binding. A wrong user
// or password is only reported in the final reply.
func (s *session) refuseSCRAM(reason string) io.Reader {
	refused := replyLine("-ERR [AUTH] wrong user or password")
	if strings.Contains(reason, "channel-binding") {
		return s.sendChallenge(reason, func(string) io.Reader { return refused })
	}
	return refused
}

// scramCredentials returns what a server would store instead of the password.
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

// binding returns the server's channel binding of the type in the client's first message,
// or of type tls-exporter if there is none.
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

// tlsState returns the state of the TLS connection, or a zero one without TLS.
func (s *session) tlsState() tls.ConnectionState {
	if conn, ok := s.conn.(*tls.Conn); ok {
		return conn.ConnectionState()
	}
	return tls.ConnectionState{}
}
