package smtp_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// trigger watches what is written to connections. It calls fire when it sees the text
// what for the third time, before or after it is written.
type trigger struct {
	what  string
	after bool
	fire  func()

	mu   sync.Mutex
	seen int          // how often what was written
	sent bytes.Buffer // all that was written, over all connections
}

// times returns how often a message was sent, over all connections.
func (t *trigger) times(message string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Count(t.sent.String(), message)
}

type triggerConn struct {
	net.Conn
	*trigger
}

func (t *trigger) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return triggerConn{conn, t}, err
}

func (c triggerConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hit := false
	if bytes.Contains(p, []byte(c.what)) {
		c.seen++
		hit = c.seen == 3
	}
	if hit && !c.after {
		c.fire()
	}
	n, err := c.Conn.Write(p)
	c.sent.Write(p[:n])
	if hit && c.after {
		c.fire()
	}
	return n, err
}

// TestKilled kills a real server in the middle of a batch and starts it again. No message
// is lost, and only the one that was being sent can arrive twice.
func TestKilled(t *testing.T) {
	messages := []string{body(0), body(1), body(2), body(3), body(4)}
	for kind, start := range map[string]func(*testing.T, ...string) *servertest.Server{"lmtp": startDovecot, "smtp": startPostfix} {
		for _, moment := range []struct {
			what  string
			after bool
		}{
			{"DATA\r\n", false}, {"\r\n.\r\n", true},
		} {
			t.Run(fmt.Sprintf("%s %q %v", kind, moment.what, moment.after), func(t *testing.T) {
				t.Parallel()
				srv := start(t, "me", "you")
				hook := &trigger{what: moment.what, after: moment.after, fire: srv.Kill}
				server := remote.Server{Addr: srv.Addr, Security: remote.PlainText, Dial: hook.dial}
				opts := realOptions(t, server, kind == "lmtp", "me", "you")

				left := []int{0, 1, 2, 3, 4}
				tries := 0
				for ; len(left) > 0 && tries < 5; tries++ {
					s := newSink(t, opts)
					var mails []deliver.Mail
					var wire []string
					for _, n := range left {
						mails = append(mails, deliver.Mail{Account: "work", UID: fmt.Sprint(n)})
						wire = append(wire, messages[n])
					}
					o := sendMails(t, t.Context(), s, mails, wire)
					s.Close()
					if tries == 0 {
						if o.err == nil {
							t.Fatal("Commit did not notice that the server is gone")
						}
						srv.Restart()
					}
					s = newSink(t, opts) // a new process
					var again []int
					for i, n := range left {
						r, reported := o.receipts[i]
						if reported && r.Err == nil {
							continue
						}
						if v, err := s.Settle(t.Context(), o.promises[i].Token); err != nil {
							t.Fatal(err)
						} else if v != deliver.Landed {
							again = append(again, n)
						}
					}
					left = again
				}
				if tries != 2 {
					t.Errorf("it took %d tries, want 2", tries)
				}
				for n, msg := range messages {
					most := 1
					if n == 2 && moment.after {
						most = 2
					}
					if got := hook.times(msg); got < 1 || got > most {
						t.Errorf("message %d was sent %d times", n, got)
					}
				}
				for _, user := range []string{"me", "you"} {
					// With duplicates, the number of messages alone does not tell
					// that each of them has arrived.
					count := make(map[string]int)
					for all := len(messages); len(count) < len(messages) && all <= len(messages)+3; all++ {
						clear(count)
						for _, msg := range srv.WaitForMessages(user+"@example.org", all) {
							count[msg]++
						}
					}
					for n, msg := range messages {
						most := 1
						if n == 2 && moment.after {
							most = 2
						}
						if n < 2 && kind == "smtp" {
							// Postfix may have died while it delivered a message that
							// it had accepted, and then deliver it again by itself.
							most = 2
						}
						if got := count[strings.ReplaceAll(msg, "\r\n", "\n")]; got < 1 || got > most {
							t.Errorf("%s has message %d %d times", user, n, got)
						}
					}
				}
			})
		}
	}
}
