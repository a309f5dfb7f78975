package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// holds is the key of a script's held requests for tokens, by the name of the provider.
type holds struct{}

type heldToken struct{ reached, release chan struct{} }

// orderProvider is provider NAME ORDER. The orders are revoke, which withdraws all grants;
// fail, which has the next request for a token fail; hold, which holds that request;
// reached, which waits for it; and release, which has it answered.
func orderProvider(ts *testscript.TestScript, _ bool, args []string) {
	p := ts.Value(providers{}).(map[string]*oauthtest.Server)[args[0]]
	held := ts.Value(holds{}).(map[string]heldToken)
	switch args[1] {
	case "hold":
		h := heldToken{make(chan struct{}), make(chan struct{})}
		held[args[0]] = h
		p.Next(oauthtest.Hold(h.reached, h.release))
	case "reached":
		select {
		case <-held[args[0]].reached:
		case <-deadline(ts).Done():
			ts.Fatalf("the request did not come")
		}
	case "release":
		close(held[args[0]].release)
	case "revoke":
		p.Revoke()
	case "fail":
		p.Next(oauthtest.Status(http.StatusInternalServerError))
	default:
		ts.Fatalf("unknown order %q", args[1])
	}
}

func (m *mailserver) mechanisms() []string {
	switch {
	case m.scram != nil:
		return m.scram
	case m.provider != nil:
		return []string{sasl.Plain, "XOAUTH2"}
	default:
		return []string{sasl.Plain}
	}
}

// xoauth2 is the server's side of XOAUTH2. A refusal takes two steps.
type xoauth2 struct {
	m       *mailserver
	success func() error
	failed  error
	refused bool
}

func (x *xoauth2) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case x.refused:
		return nil, true, x.failed
	case response == nil:
		return []byte{}, false, nil
	}
	token, _ := strings.CutPrefix(string(response), "user=ada\x01auth=Bearer ")
	token, _ = strings.CutSuffix(token, "\x01\x01")
	resp, err := http.PostForm(x.m.provider.URL+"/introspect", url.Values{"token": {token}})
	if err != nil {
		return nil, true, err
	}
	defer resp.Body.Close()
	text := make([]byte, 1000)
	n, _ := resp.Body.Read(text)
	if !strings.Contains(string(text[:n]), `"active":true`) {
		x.refused = true
		return fmt.Appendf(nil, `{"status":"401","scope":"mail","said":%q}`, token), false, nil
	}
	if x.success != nil {
		err = x.success()
	}
	return nil, true, err
}

// imapSession is a session of an IMAP server.
type imapSession struct {
	imapserver.Session
	m    *mailserver
	conn *imapserver.Conn
}

func (s *imapSession) Close() error {
	if s.m.room != nil {
		<-s.m.room
	}
	return s.Session.Close()
}

func (s *imapSession) Append(folder string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	if s.m.full {
		_, err := io.Copy(io.Discard, r)
		return nil, errors.Join(err, &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeOverQuota, Text: "no room"})
	}
	return s.Session.Append(folder, r, o)
}

func (s *imapSession) AuthenticateMechanisms() []string { return s.m.mechanisms() }

func (s *imapSession) Authenticate(name string) (sasl.Server, error) {
	success := func() error { return s.Login("ada", password) }
	if name == "XOAUTH2" {
		return &xoauth2{m: s.m, success: success, failed: imapserver.ErrAuthFailed}, nil
	}
	if s.m.scram != nil {
		channel := s.conn.NetConn().(*tls.Conn).ConnectionState()
		return &scramServer{channel: channel, own: s.m.own, endPoint: s.m.endPoint, success: success, failed: imapserver.ErrAuthFailed}, nil
	}
	return sasl.NewPlainServer(func(_, user, pass string) error { return s.Login(user, pass) }), nil
}
