package pop3test

import (
	"io"
	"strings"
)

// oauthBearer is the first step of OAUTHBEARER (RFC 7628).
func (s *session) oauthBearer(response string) io.Reader {
	header, rest, _ := strings.Cut(response, "\x01")
	name, ok := strings.CutPrefix(header, "n,a=")
	name, closed := strings.CutSuffix(name, ",")
	if !ok || !closed {
		return replyLine("-ERR OAUTHBEARER wants a name")
	}
	user := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	return s.bearer(user, rest, `{"status":"invalid_token","scope":"mail"}`)
}

// xoauth2 is the first step of XOAUTH2, which Google and Microsoft document.
func (s *session) xoauth2(response string) io.Reader {
	header, rest, _ := strings.Cut(response, "\x01")
	user, ok := strings.CutPrefix(header, "user=")
	if !ok {
		return replyLine("-ERR XOAUTH2 wants a name")
	}
	return s.bearer(user, rest, `{"status":"401","schemes":"Bearer","scope":"https://mail.google.com/"}`)
}

// bearer checks the token among pairs, which end in two ^A. It refuses a wrong token with
// errorMessage, to which the client has to respond.
func (s *session) bearer(user, pairs, errorMessage string) io.Reader {
	pairs, terminated := strings.CutSuffix(pairs, "\x01\x01")
	var token string
	for pair := range strings.SplitSeq(pairs, "\x01") {
		if t, ok := strings.CutPrefix(pair, "auth=Bearer "); ok {
			token = t
		}
	}
	if !terminated || token == "" {
		return replyLine("-ERR no token")
	}
	s.setUser(user)
	matches := func(pass string) bool { return pass == token }
	if s.maildrop == nil || !s.maildrop.accepts(matches) {
		return s.sendChallenge(errorMessage, func(string) io.Reader {
			return replyLine("-ERR [AUTH] token refused")
		})
	}
	return s.login(matches)
}
