package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

// mailservers is the key of a script's mail servers, by name.
type mailservers struct{}

// mailserver is a server that sinks deliver to.
type mailserver struct {
	folders  *imapmemserver.User // of an IMAP server
	provider *oauthtest.Server   // its tokens are accepted, unless it is nil
	scram    []string            // the SCRAM mechanisms that are offered, instead of PLAIN
	endPoint bool                // -PLUS knows tls-server-end-point only, whatever the version of TLS
	own      tls.Certificate
	room     chan struct{} // holds a token for each open session; nil if any number may be open
	full     bool          // every mailbox is full

	mu  sync.Mutex
	got map[string]int // of SMTP and LMTP: the number of messages by recipient
}

// startMailserver is mailserver NAME KIND [PROVIDER|plus|plus1.2|endpoint|stripped|few|full]: it
// starts a server that takes mail,
//
//	smtp   with STARTTLS
//	lmtp   on a UNIX socket
//	imap   with TLS from the first byte
//
// $NAME is then its address. It has a user ada with $PASSWORD, a certificate
// in NAME.pem with the SHA-256 $NAME_fingerprint, and refuses the recipient
// nobody@example.com. With an OAuth provider it knows XOAUTH2 too, and takes
// the provider's tokens. With plus it knows SCRAM-SHA-256-PLUS alone, on TLS 1.3
// or 1.2; if that is stripped, clients see SCRAM-SHA-256. With endpoint it knows
// no other channel binding than that of TLS 1.2. With few it serves three
// connections of IMAP at once; the next one waits. With full it takes no mail.
func startMailserver(ts *testscript.TestScript, _ bool, args []string) {
	name, kind := args[0], args[1]
	conf := certificate(ts, name, []string{"127.0.0.1"})
	cert, _ := pem.Decode([]byte(ts.ReadFile(name + ".pem")))
	ts.Setenv(name+"_fingerprint", fmt.Sprintf("%x", sha256.Sum256(cert.Bytes)))
	m := &mailserver{got: map[string]int{}, own: conf.Certificates[0]}
	switch how := strings.Join(args[2:], " "); how {
	case "":
	case "plus", "plus1.2", "endpoint":
		m.endPoint = how == "endpoint"
		m.scram = []string{"SCRAM-SHA-256-PLUS"}
		if how == "plus1.2" {
			conf.MaxVersion = tls.VersionTLS12
		}
	case "few":
		m.room = make(chan struct{}, 3)
	case "full":
		m.full = true
	case "stripped":
		m.scram = []string{"SCRAM-SHA-256"}
	default:
		m.provider = ts.Value(providers{}).(map[string]*oauthtest.Server)[how]
	}
	network, addr := "tcp", "127.0.0.1:0"
	if kind == "lmtp" {
		// The path of a socket must be short.
		dir, err := os.MkdirTemp("", "lmtp")
		ts.Check(err)
		ts.Defer(func() { os.RemoveAll(dir) })
		network, addr = "unix", filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, addr)
	ts.Check(err)
	ts.Setenv(name, l.Addr().String())
	if _, port, err := net.SplitHostPort(l.Addr().String()); err == nil {
		ts.Setenv(name+"_port", port)
	}
	ts.Value(mailservers{}).(map[string]*mailserver)[name] = m
	if kind == "imap" {
		m.serveIMAP(ts, tls.NewListener(l, conf))
		return
	}
	server := gosmtp.NewServer(gosmtp.BackendFunc(func(conn *gosmtp.Conn) (gosmtp.Session, error) {
		return &mailSession{m: m, conn: conn}, nil
	}))
	server.LMTP, server.TLSConfig, server.ErrorLog = kind == "lmtp", conf, log.New(io.Discard, "", 0)
	go func() { _ = server.Serve(l) }()
	ts.Defer(func() { server.Close() })
}

func (m *mailserver) serveIMAP(ts *testscript.TestScript, l net.Listener) {
	m.folders = imapmemserver.NewUser("ada", password)
	ts.Check(m.folders.Create("INBOX", nil))
	store := imapmemserver.New()
	store.AddUser(m.folders)
	server := imapserver.New(&imapserver.Options{
		NewSession: func(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			if m.room != nil {
				m.room <- struct{}{}
			}
			return &imapSession{Session: store.NewSession(), m: m, conn: conn}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}},
		InsecureAuth: true, // the server does not see the TLS of its listener
		Logger:       log.New(io.Discard, "", 0),
	})
	go func() { _ = server.Serve(l) }()
	ts.Defer(func() { server.Close() })
}

// arrived SERVER WHERE N checks how many messages a recipient, or a folder of
// an IMAP server, has. A folder that is missing has "none".
func arrived(ts *testscript.TestScript, _ bool, args []string) {
	m := ts.Value(mailservers{}).(map[string]*mailserver)[args[0]]
	m.mu.Lock()
	got := strconv.Itoa(m.got[args[1]])
	m.mu.Unlock()
	if m.folders != nil {
		got = "none"
		if data, err := m.folders.Status(args[1], &imap.StatusOptions{NumMessages: true}); err == nil {
			got = fmt.Sprint(*data.NumMessages)
		}
	}
	if got != args[2] {
		ts.Fatalf("%s has %s messages, want %s", args[1], got, args[2])
	}
}

// mailSession is a session of SMTP or LMTP.
type mailSession struct {
	m    *mailserver
	conn *gosmtp.Conn
	to   []string
}

func (s *mailSession) Reset()        { s.to = nil }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(string, *gosmtp.MailOptions) error {
	if s.m.full {
		return &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 3, 1}, Message: "no room"}
	}
	return nil
}

func (s *mailSession) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if to == "nobody@example.com" {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil && !strings.Contains(string(text), "Subject:") {
		err = errors.New("not a message of the test")
	}
	if err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, to := range slices.Compact(s.to) {
		s.m.got[to]++
	}
	return nil
}

func (s *mailSession) LMTPData(r io.Reader, status gosmtp.StatusCollector) error {
	err := s.Data(r)
	for _, to := range s.to {
		status.SetStatus(to, err)
	}
	return nil
}

func (s *mailSession) AuthMechanisms() []string { return s.m.mechanisms() }

func (s *mailSession) Auth(name string) (sasl.Server, error) {
	if name == "XOAUTH2" {
		return &xoauth2{m: s.m, failed: gosmtp.ErrAuthFailed}, nil
	}
	if s.m.scram != nil {
		channel, _ := s.conn.TLSConnectionState()
		return &scramServer{channel: channel, own: s.m.own, endPoint: s.m.endPoint, success: func() error { return nil }, failed: gosmtp.ErrAuthFailed}, nil
	}
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != "ada" || pass != password {
			return gosmtp.ErrAuthFailed
		}
		return nil
	}), nil
}
