package smtp_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
)

// servers are the in-process servers of the suite, by their address. The address of the
// server for a directory is in a file there, since a sink that is opened anew must find it.
type servers struct {
	t    *testing.T
	lmtp bool

	mu     sync.Mutex
	byAddr map[string]*memory
}

func (s *servers) suite() delivertest.Suite {
	return delivertest.Suite{Open: s.open, Read: s.read, Canon: canon}
}

func (s *servers) open(fsys durable.FS, dir string) (deliver.Sink, error) {
	addr, err := address(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		m := newMemory(s.t, s.lmtp)
		s.mu.Lock()
		s.byAddr[m.addr] = m
		s.mu.Unlock()
		addr, err = m.addr, noteAddress(fsys, dir, m.addr)
	}
	if err != nil {
		return nil, err
	}
	return smtp.New(smtp.Options{
		Server: remote.Server{Addr: addr, Security: remote.PlainText},
		LMTP:   s.lmtp, Hello: "client.example.org", To: []string{"me@example.org", "you@example.org"},
		Spool: spool.New(filepath.Join(dir, "spool"), fsys),
	})
}

// read returns the messages that the server received. All must be for both recipients.
func (s *servers) read(fsys durable.FS, dir string) ([]string, error) {
	addr, err := address(fsys, dir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	m := s.byAddr[addr]
	s.mu.Unlock()
	var got []string
	for _, msg := range m.messages() {
		if to := strings.Join(msg.to, " "); to != "me@example.org you@example.org" {
			return nil, errors.New("recipients: " + to)
		}
		got = append(got, strings.ReplaceAll(msg.body, "\r\n", "\n"))
	}
	return got, nil
}

// address reads the address of the server for a directory.
func address(fsys durable.FS, dir string) (string, error) {
	f, err := fsys.OpenFile(filepath.Join(dir, "server"), os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	addr, err := io.ReadAll(f)
	return string(addr), err
}

// noteAddress records the address of the server for a directory.
func noteAddress(fsys durable.FS, dir, addr string) error {
	f, err := fsys.OpenFile(filepath.Join(dir, "server"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(addr))
	return errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(dir))
}

// canon returns a message as a mail reader shows it: with the repairs that package smtp
// documents, and LF as the line end.
func canon(wire string) string {
	wire = strings.ReplaceAll(wire, "\r\n", "\n")
	wire = strings.ReplaceAll(wire, "\r", "\n")
	wire = strings.ReplaceAll(wire, "\x00", "")
	if !strings.HasSuffix(wire, "\n") {
		wire += "\n"
	}
	return wire
}

func TestSuite(t *testing.T) {
	for name, lmtp := range map[string]bool{"smtp": false, "lmtp": true} {
		t.Run(name, func(t *testing.T) {
			s := &servers{t: t, lmtp: lmtp, byAddr: make(map[string]*memory)}
			delivertest.Run(t, s.suite())
		})
	}
}
