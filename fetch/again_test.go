package fetch_test

import (
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
)

// lmtp is a server that puts off one recipient.
type lmtp struct {
	later string

	mu sync.Mutex
	to []string // whom it was sent mail for, in order
}

// listen starts the server and returns its address.
func (l *lmtp) listen(t *testing.T) string {
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return l, nil }))
	s.LMTP = true
	n, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go func() { _ = s.Serve(n) }()
	t.Cleanup(func() { s.Close() })
	return n.Addr().String()
}

func (l *lmtp) Reset()                                 {}
func (l *lmtp) Logout() error                          { return nil }
func (l *lmtp) Mail(string, *gosmtp.MailOptions) error { return nil }
func (l *lmtp) Data(r io.Reader) error                 { _, err := io.Copy(io.Discard, r); return err }

func (l *lmtp) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = append(l.to, to)
	if to == l.later {
		return &gosmtp.SMTPError{Code: 450, Message: "later"}
	}
	return nil
}

// A filter that makes something else of a message each time does not make it
// another message: who has it is not sent it again.
func TestFilteredAgain(t *testing.T) {
	const a, b = "a@example.org", "b@example.org"
	// The field comes before our own, which tells another time.
	const script = `echo "X-Run: $$"; cat`
	r := filtered(t, script, filter.Options{})
	server := &lmtp{later: b}
	sink, err := smtp.New(smtp.Options{
		Server: remote.Server{Addr: server.listen(t), Security: remote.PlainText},
		LMTP:   true, To: []string{a, b}, Spool: spool.New(filepath.Join(t.TempDir(), "spool"), durable.OS),
	})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	r.account.Deliver = []fetch.Target{{Name: "lda", Sink: sink}}
	r.account.Headers.Received = true
	r.fill(1)
	r.poll()
	r.later(day)
	r.poll()
	r.account.Filter = nil
	r.later(day)
	r.poll()
	if want := []string{a, b, b, b}; !slices.Equal(server.to, want) {
		t.Errorf("sent to %q, want %q", server.to, want)
	}
}
