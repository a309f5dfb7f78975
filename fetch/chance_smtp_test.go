package fetch_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestSMTPByChance delivers to an SMTP or LMTP server that refuses, hangs up, and loses
// its replies, with processes that are killed meanwhile. At no time is a message missing
// both from its server and from a recipient. In the end each recipient has it once, and
// once more for each reply that was lost.
func TestSMTPByChance(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			c := &chance{Rand: rand.New(rand.NewPCG(seed, 2)), message: message}
			c.rig = newRig(t, pop3test.Behaviour{})
			c.retryInUse, c.numbers = true, c.oneIn(2)
			m := &smtpServer{Rand: rand.New(rand.NewPCG(seed, 3)), lmtp: c.oneIn(2), taken: map[string]int{}, lost: map[string]int{}}
			addr, dir := listen(t, m.serve), filepath.Join(t.TempDir(), "spool")
			c.sinks = map[string]func() []string{"relay": func() []string { return m.mail(c.added) }}
			c.logSetting(nil)
			for at := range 5 {
				c.add(c.IntN(8))
				c.account.Deliver[0].Sink = newSMTPSink(t, m.lmtp, addr, dir)
				if c.oneIn(3) {
					c.opts.State = &killedAfterWrites{State: c.store, left: c.IntN(8)}
				}
				m.failOneIn(4 + c.IntN(20))
				c.pollOn(at)
				c.opts.State = c.store
				c.expectNoneLost("relay", m.mail(c.added))
				c.advance(time.Duration(c.IntN(30)) * time.Hour)
				c.number()
			}
			m.failOneIn(0)
			c.account.Deliver[0].Sink = newSMTPSink(t, m.lmtp, addr, dir)
			c.settle(6, nil)
			c.expectMaildropEmpty()
		})
	}
}

// newSMTPSink returns the sink as in a process that was just started.
func newSMTPSink(t *testing.T, lmtp bool, addr, dir string) *smtp.Sink {
	sink, err := smtp.New(smtp.Options{
		Server: remote.Server{Addr: addr, Security: remote.PlainText}, LMTP: lmtp,
		To: recipients, Spool: spool.New(dir, durable.OS),
	})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink
}

var recipients = []string{"a@example.org", "b@example.org"}

// smtpServer is a server of SMTP or LMTP that fails at random.
type smtpServer struct {
	mu sync.Mutex
	*rand.Rand
	lmtp bool
	bad  int // one reply in so many is a failure; 0 is none
	// taken and lost count, by message number and recipient, the messages that were
	// taken, and those of them that were not confirmed.
	taken, lost map[string]int
}

// failOneIn has one reply in n be a failure; 0 is none.
func (m *smtpServer) failOneIn(bad int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = bad
}

// mail returns those of the first n messages that all recipients have, and one again
// for each time that somebody got it too often.
func (m *smtpServer) mail(n int) (mail []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range n {
		all := true
		for _, to := range recipients {
			key := fmt.Sprint(i+1, to)
			all = all && m.taken[key] > 0
			mail = append(mail, slices.Repeat([]string{message(i + 1)}, max(0, m.taken[key]-1-m.lost[key]))...)
		}
		if all {
			mail = append(mail, message(i+1))
		}
	}
	return mail
}

// answer returns a random reply: 250, a failure, or none. It also returns whether the
// server hangs up then.
func (m *smtpServer) answer() (reply string, end bool) {
	if m.bad == 0 || m.IntN(m.bad) > 0 {
		return "250 2.0.0 fine", false
	}
	reply = []string{"", "421 4.3.2 bye", "450 4.7.1 greylisted", "452 4.3.1 full", "550 5.7.1 spam"}[m.IntN(5)]
	return reply, reply == "" || reply[:3] == "421"
}

// say replies to a command, with usual instead of 250 unless it is empty. It returns
// whether that was no failure, and whether the server hangs up then.
func (m *smtpServer) say(w io.Writer, usual string) (fine, end bool) {
	m.mu.Lock()
	reply, end := m.answer()
	m.mu.Unlock()
	if fine = strings.HasPrefix(reply, "250"); fine && usual != "" {
		reply = usual
	}
	if reply != "" {
		_, _ = io.WriteString(w, reply+"\r\n")
	}
	return fine, end
}

// numbered finds the number of a message that message has made.
var numbered = regexp.MustCompile(`\nSubject: number ([0-9]+)\r\n`)

// serve is one session.
func (m *smtpServer) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	var to []string
	if _, end := m.say(conn, "220 here"); end {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb := line[:4]
		usual := map[string]string{"DATA": "354 go on", "QUIT": "221 bye"}[verb]
		fine, end := m.say(conn, usual)
		switch {
		case end, verb == "QUIT":
			return
		case verb == "MAIL", verb == "RSET":
			to = nil
		case verb == "RCPT" && fine:
			to = append(to, line[len("RCPT TO:<"):len(line)-len(">\r\n")])
		case verb == "DATA" && fine:
			var body strings.Builder
			for line = ""; line != ".\r\n"; body.WriteString(line) {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			if m.takeMessage(conn, numbered.FindStringSubmatch(body.String())[1], to) {
				return
			}
		}
	}
}

// takeMessage takes a message or refuses it, for each recipient, and replies or loses the
// reply. It reports whether the server hangs up then.
func (m *smtpServer) takeMessage(w io.Writer, number string, to []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	groups := [][]string{to} // of the recipients that one reply is for
	if m.lmtp {
		groups = slices.Collect(slices.Chunk(to, 1)) // RFC 2033 §4.2
	}
	for _, group := range groups {
		reply, end := m.answer()
		for _, recipient := range group {
			lost := reply == "" && m.IntN(2) == 0
			if lost {
				m.lost[number+recipient]++
			}
			if lost || strings.HasPrefix(reply, "2") {
				m.taken[number+recipient]++
			}
		}
		if reply != "" {
			_, _ = io.WriteString(w, reply+"\r\n")
		}
		if end {
			return true
		}
	}
	return false
}
