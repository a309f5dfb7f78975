package pop3test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"slices"
	"strings"
)

// saslStep handles a response of the client, base64 undone, and returns the reply.
type saslStep func(response string) io.Reader

// saslMechanisms begin the exchanges of AUTH: each returns the first challenge, which is
// empty if the client sends the first message, and the step for the response.
var saslMechanisms = map[string]func(*session) (challenge string, next saslStep){
	"PLAIN":              func(s *session) (string, saslStep) { return "", s.plain },
	"LOGIN":              func(s *session) (string, saslStep) { return "Username:", s.loginName },
	"CRAM-MD5":           (*session).cramMD5,
	"SCRAM-SHA-1":        func(s *session) (string, saslStep) { return "", s.scram("SCRAM-SHA-1") },
	"SCRAM-SHA-1-PLUS":   func(s *session) (string, saslStep) { return "", s.scram("SCRAM-SHA-1") },
	"SCRAM-SHA-256":      func(s *session) (string, saslStep) { return "", s.scram("SCRAM-SHA-256") },
	"SCRAM-SHA-256-PLUS": func(s *session) (string, saslStep) { return "", s.scram("SCRAM-SHA-256") },
	"OAUTHBEARER":        func(s *session) (string, saslStep) { return "", s.oauthBearer },
	"XOAUTH2":            func(s *session) (string, saslStep) { return "", s.xoauth2 },
	"EXTERNAL":           func(s *session) (string, saslStep) { return "", s.external },
}

// mechanisms returns the mechanisms that the server offers on this connection.
func (s *session) mechanisms(b Behaviour) []string {
	if b.Mechanisms == nil {
		return []string{"PLAIN", "LOGIN"}
	}
	return slices.DeleteFunc(slices.Clone(b.Mechanisms), func(name string) bool {
		return !s.secure && (isPlus(name) || name == "EXTERNAL")
	})
}

func isPlus(name string) bool { return strings.HasSuffix(name, "-PLUS") }

// auth begins an AUTH command (RFC 5034 §4).
func (s *session) auth(x *Exchange) io.Reader {
	name, initial, hasInitial := strings.Cut(x.Args, " ")
	name = strings.ToUpper(name)
	begin := saslMechanisms[name]
	if begin == nil || !slices.Contains(s.mechanisms(s.behaviour()), name) {
		return replyLine("-ERR unknown mechanism")
	}
	challenge, next := begin(s)
	if !hasInitial {
		return s.sendChallenge(challenge, next)
	}
	if name == "CRAM-MD5" {
		return replyLine("-ERR the server speaks first")
	}
	if initial == "=" { // RFC 5034 §4: an initial response of no bytes
		initial = ""
	}
	return s.handleResponse(initial, next)
}

// sendChallenge sends a challenge, and makes next handle the response.
func (s *session) sendChallenge(challenge string, next saslStep) io.Reader {
	s.nextStep = next
	return replyLine("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)))
}

// handleResponse decodes a response and passes it to next.
func (s *session) handleResponse(line string, next saslStep) io.Reader {
	s.nextStep = nil
	if line == "*" {
		return replyLine("-ERR cancelled")
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return replyLine("-ERR not base64")
	}
	return next(string(response))
}

// plain is the only step of PLAIN (RFC 4616).
func (s *session) plain(response string) io.Reader {
	parts := strings.Split(response, "\x00")
	if len(parts) != 3 {
		return replyLine("-ERR PLAIN wants three parts")
	}
	authzid, user, secret := parts[0], parts[1], parts[2]
	if authzid != "" && authzid != user {
		return replyLine("-ERR [AUTH] may not act for another user")
	}
	s.setUser(user)
	return s.login(func(pass string) bool { return pass == secret })
}

// loginName and loginPass are the two steps of LOGIN, which no RFC describes.
func (s *session) loginName(user string) io.Reader {
	s.setUser(user)
	return s.sendChallenge("Password:", s.loginPass)
}

func (s *session) loginPass(secret string) io.Reader {
	return s.login(func(pass string) bool { return pass == secret })
}

// cramMD5 begins CRAM-MD5 (RFC 2195).
func (s *session) cramMD5() (challenge string, next saslStep) {
	challenge = "<" + rand.Text() + "@localhost>"
	return challenge, func(response string) io.Reader {
		i := strings.LastIndexByte(response, ' ')
		if i < 0 {
			return replyLine("-ERR CRAM-MD5 wants a name and a digest")
		}
		s.setUser(response[:i])
		return s.login(func(pass string) bool {
			mac := hmac.New(md5.New, []byte(pass))
			io.WriteString(mac, challenge)
			return response[i+1:] == hex.EncodeToString(mac.Sum(nil))
		})
	}
}

// external is the only step of EXTERNAL (RFC 4422 appendix A), with a client certificate.
func (s *session) external(authzid string) io.Reader {
	certs := s.tlsState().PeerCertificates
	if len(certs) == 0 || len(certs[0].DNSNames) == 0 {
		return replyLine("-ERR [AUTH] no client certificate")
	}
	user := certs[0].DNSNames[0]
	if authzid != "" && authzid != user {
		return replyLine("-ERR [AUTH] may not act for another user")
	}
	s.setUser(user)
	return s.login(func(string) bool { return true })
}
