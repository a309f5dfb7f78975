package imap_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

const (
	user = "me@example.org"
	pass = `s3cret "\`
)

func secret(context.Context) (string, error) { return pass, nil }

// memory is an IMAP server in this process with an account that has an INBOX.
type memory struct {
	addr string

	mu    sync.Mutex
	idle  sync.Cond // signalled when a session ends
	open  int       // sessions
	conns []net.Conn
	took  []string // as they came in: the server cannot show what has no header
}

// serve starts a server, until the test ends.
func serve(t *testing.T, caps ...goimap.Cap) *memory {
	t.Helper()
	return serveTLS(t, remote.PlainText, nil, caps...)
}

// serveTLS starts a server with TLS as security says.
func serveTLS(t *testing.T, security remote.Security, config *tls.Config, caps ...goimap.Cap) *memory {
	t.Helper()
	account := imapmemserver.NewUser(user, pass)
	if err := account.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	store := imapmemserver.New()
	store.AddUser(account)
	set := goimap.CapSet{goimap.CapIMAP4rev1: {}}
	for _, c := range caps {
		set[c] = struct{}{}
	}
	m := new(memory)
	m.idle.L = &m.mu
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.open++
			return &session{store.NewSession().(imapserver.SessionIMAP4rev2), m}, nil, nil
		},
		Caps: set, InsecureAuth: security == remote.PlainText, TLSConfig: config, Logger: log.New(io.Discard, "", 0),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if security == remote.ImplicitTLS {
		l = tls.NewListener(l, config)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener{l, m}) })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	m.addr = l.Addr().String()
	return m
}

// listener records the connections.
type listener struct {
	net.Listener
	m *memory
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		l.m.conns = append(l.m.conns, conn)
	}
	return conn, err
}

type session struct {
	imapserver.SessionIMAP4rev2
	m *memory
}

func (s *session) Append(folder string, r goimap.LiteralReader, o *goimap.AppendOptions) (*goimap.AppendData, error) {
	text, err := io.ReadAll(r)
	if err != nil || int64(len(text)) != r.Size() {
		return nil, errors.New("cut short")
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	data, err := s.SessionIMAP4rev2.Append(folder, literal{bytes.NewReader(text)}, o)
	if err == nil {
		s.m.took = append(s.m.took, string(text))
	}
	return data, err
}

func (s *session) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.open--
	s.m.idle.Broadcast()
	return s.SessionIMAP4rev2.Close()
}

type literal struct{ *bytes.Reader }

// wait waits until no client is connected.
func (m *memory) wait() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.open > 0 {
		m.idle.Wait()
	}
}

// texts returns the messages that were stored.
func (m *memory) texts() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.took)
}

// options returns options for a server without TLS.
func options(addr string, fsys durable.FS, dir string) imap.Options {
	return imap.Options{
		Server: remote.Server{Addr: addr, Security: remote.PlainText, User: user, Secret: secret, Timeout: time.Minute},
		Spool:  spool.New(filepath.Join(dir, "spool"), fsys),
	}
}

func open(t *testing.T, o imap.Options) *imap.Sink {
	t.Helper()
	s, err := imap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// strict claims the guarantee ExactlyOnce, so that the suite checks Settle fully. The claim is
// true as long as nobody removes mail from the folder.
type strict struct{ *imap.Sink }

func (s strict) Profile() deliver.Profile {
	p := s.Sink.Profile()
	p.Guarantee = deliver.ExactlyOnce
	return p
}

// canon returns a message with the changes that the sink documents.
func canon(wire string) string {
	wire = strings.ReplaceAll(wire, "\x00", "\x80")
	wire = strings.ReplaceAll(strings.ReplaceAll(wire, "\r\n", "\n"), "\n", "\r\n")
	if wire == "" {
		return "\r\n"
	}
	return wire
}

// stored is a message as a mail program finds it.
type stored struct {
	text  string
	flags []goimap.Flag
	date  time.Time
}

// mailbox returns the messages of the folder.
func mailbox(o imap.Options) ([]stored, error) {
	conn, err := o.Server.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	c := imapclient.New(conn, nil)
	defer c.Close()
	if err := c.Login(user, pass).Wait(); err != nil {
		return nil, err
	}
	folder := o.Folder
	if folder == "" {
		folder = "INBOX"
	}
	data, err := c.Select(folder, nil).Wait()
	if err != nil || data.NumMessages == 0 {
		return nil, err
	}
	var all goimap.SeqSet
	all.AddRange(1, 0)
	list, err := c.Fetch(all, &goimap.FetchOptions{
		Flags: true, InternalDate: true, BodySection: []*goimap.FetchItemBodySection{{Peek: true}},
	}).Collect()
	var messages []stored
	for _, m := range list {
		messages = append(messages, stored{string(m.BodySection[0].Bytes), m.Flags, m.InternalDate})
	}
	return messages, err
}

// suite has one server for each place: a file there says which.
func suite(start func() *memory) delivertest.Suite {
	var mu sync.Mutex
	servers := make(map[string]*memory)
	at := func(fsys durable.FS, dir string) (imap.Options, error) {
		name := filepath.Join(dir, "server")
		f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return imap.Options{}, err
		}
		defer f.Close()
		addr, err := io.ReadAll(f)
		if len(addr) == 0 && err == nil {
			m := start()
			addr = []byte(m.addr)
			mu.Lock()
			servers[m.addr] = m
			mu.Unlock()
			_, werr := f.Write(addr)
			err = errors.Join(werr, f.Sync(), fsys.SyncDir(dir))
		}
		return options(string(addr), fsys, dir), err
	}
	return delivertest.Suite{
		Open: func(fsys durable.FS, dir string) (deliver.Sink, error) {
			o, err := at(fsys, dir)
			if err != nil {
				return nil, err
			}
			s, err := imap.New(o)
			return strict{s}, err
		},
		Read: func(fsys durable.FS, dir string) ([]string, error) {
			o, err := at(fsys, dir)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			return servers[o.Server.Addr].texts(), nil
		},
		Canon: canon,
	}
}

func TestSuite(t *testing.T) {
	for _, test := range []struct {
		name string
		caps []goimap.Cap
	}{
		{"bare", nil},
		{"UIDPLUS", []goimap.Cap{goimap.CapUIDPlus}},
		{"LITERAL+", []goimap.Cap{goimap.CapUIDPlus, goimap.CapLiteralPlus}},
		{"IMAP4rev2", []goimap.Cap{goimap.CapIMAP4rev2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			delivertest.Run(t, suite(func() *memory { return serve(t, test.caps...) }))
		})
	}
}

func TestProfile(t *testing.T) {
	s := open(t, options("imap.example.org:993", durable.OS, t.TempDir()))
	want := deliver.Profile{Kind: "imap", Target: "imap://me@example.org@imap.example.org:993/INBOX", Guarantee: deliver.AtLeastOnce}
	if p := s.Profile(); p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
}
