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

// step takes what the client says to a challenge.
type step func(response string) io.Reader

// sasl begins the exchanges of AUTH: the first challenge, empty where the
// client speaks first, and who takes the response.
var sasl = map[string]func(*session) (challenge string, next step){
	"PLAIN":              func(s *session) (string, step) { return "", s.plain },
	"LOGIN":              func(s *session) (string, step) { return "Username:", s.loginName },
	"CRAM-MD5":           (*session).cramMD5,
	"SCRAM-SHA-1":        func(s *session) (string, step) { return "", s.scram("SCRAM-SHA-1") },
	"SCRAM-SHA-1-PLUS":   func(s *session) (string, step) { return "", s.scram("SCRAM-SHA-1") },
	"SCRAM-SHA-256":      func(s *session) (string, step) { return "", s.scram("SCRAM-SHA-256") },
	"SCRAM-SHA-256-PLUS": func(s *session) (string, step) { return "", s.scram("SCRAM-SHA-256") },
	"OAUTHBEARER":        func(s *session) (string, step) { return "", s.oauthBearer },
	"XOAUTH2":            func(s *session) (string, step) { return "", s.xoauth2 },
	"EXTERNAL":           func(s *session) (string, step) { return "", s.external },
}

// mechanisms are those that the server has on this connection.
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
	name, initial, given := strings.Cut(x.Args, " ")
	name = strings.ToUpper(name)
	begin := sasl[name]
	if begin == nil || !slices.Contains(s.mechanisms(s.behaviour()), name) {
		return text("-ERR unknown mechanism")
	}
	challenge, next := begin(s)
	if !given {
		return s.ask(challenge, next)
	}
	if name == "CRAM-MD5" {
		return text("-ERR the server speaks first")
	}
	if initial == "=" { // RFC 5034 §4: an initial response of no bytes
		initial = ""
	}
	return s.respond(initial, next)
}

// ask sends a challenge; next gets the answer, which is the next line.
func (s *session) ask(challenge string, next step) io.Reader {
	s.sasl = next
	return text("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)))
}

// respond has next take what the client says.
func (s *session) respond(line string, next step) io.Reader {
	s.sasl = nil
	if line == "*" {
		return text("-ERR cancelled")
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return text("-ERR not base64")
	}
	return next(string(response))
}

// plain is the one step of RFC 4616.
func (s *session) plain(response string) io.Reader {
	parts := strings.Split(response, "\x00")
	if len(parts) != 3 {
		return text("-ERR PLAIN wants three parts")
	}
	as, user, secret := parts[0], parts[1], parts[2]
	if as != "" && as != user {
		return text("-ERR [AUTH] may not act for another user")
	}
	s.name(user)
	return s.login(func(pass string) bool { return pass == secret })
}

// loginName and loginPass are the two steps of LOGIN, a mechanism that no RFC
// describes.
func (s *session) loginName(user string) io.Reader {
	s.name(user)
	return s.ask("Password:", s.loginPass)
}

func (s *session) loginPass(secret string) io.Reader {
	return s.login(func(pass string) bool { return pass == secret })
}

// cramMD5 is RFC 2195.
func (s *session) cramMD5() (challenge string, next step) {
	challenge = "<" + rand.Text() + "@localhost>"
	return challenge, func(response string) io.Reader {
		i := strings.LastIndexByte(response, ' ')
		if i < 0 {
			return text("-ERR CRAM-MD5 wants a name and a digest")
		}
		s.name(response[:i])
		return s.login(func(pass string) bool {
			mac := hmac.New(md5.New, []byte(pass))
			io.WriteString(mac, challenge)
			return response[i+1:] == hex.EncodeToString(mac.Sum(nil))
		})
	}
}

// external is RFC 4422 appendix A, for a client certificate.
func (s *session) external(as string) io.Reader {
	certs := s.tlsState().PeerCertificates
	if len(certs) == 0 || len(certs[0].DNSNames) == 0 {
		return text("-ERR [AUTH] no client certificate")
	}
	user := certs[0].DNSNames[0]
	if as != "" && as != user {
		return text("-ERR [AUTH] may not act for another user")
	}
	s.name(user)
	return s.login(func(string) bool { return true })
}
