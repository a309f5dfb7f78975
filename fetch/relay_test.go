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

// TestRelayByChance has days of mail for a mail server that refuses, hangs up and
// loses its replies as chance has it, and processes that are killed meanwhile. At no
// time is a message neither on its server nor with all its recipients, and in the end
// each recipient has it once, and once more for each reply that was lost.
func TestRelayByChance(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			c := &chance{Rand: rand.New(rand.NewPCG(seed, 2)), message: message}
			c.rig = newRig(t, pop3test.Behaviour{})
			c.patient, c.numbers = true, c.once(2)
			m := &moody{Rand: rand.New(rand.NewPCG(seed, 3)), lmtp: c.once(2), taken: map[string]int{}, lost: map[string]int{}}
			addr, dir := listen(t, m.serve), filepath.Join(t.TempDir(), "spool")
			c.sinks = map[string]func() []string{"relay": func() []string { return m.mail(c.added) }}
			c.begin(nil)
			for at := range 5 {
				c.add(c.IntN(8))
				c.account.Deliver[0].Sink = newRelay(t, m.lmtp, addr, dir)
				if c.once(3) {
					c.opts.State = &doomed{State: c.store, left: c.IntN(8)}
				}
				m.be(4 + c.IntN(20))
				c.pollOn(at)
				c.opts.State = c.store
				c.expectKept(m.mail(c.added))
				c.later(time.Duration(c.IntN(30)) * time.Hour)
				c.number()
			}
			m.be(0)
			c.account.Deliver[0].Sink = newRelay(t, m.lmtp, addr, dir)
			c.settle(6, func(mail []string) []string { return mail })
			c.expectEmpty()
		})
	}
}

// newRelay returns the sink as a new process has it.
func newRelay(t *testing.T, lmtp bool, addr, dir string) *smtp.Sink {
	sink, err := smtp.New(smtp.Options{
		Server: remote.Server{Addr: addr, Security: remote.PlainText}, LMTP: lmtp,
		To: recipients, Spool: spool.New(dir, durable.OS),
	})
	check(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink
}

var recipients = []string{"a@example.org", "b@example.org"}

// expectKept fails the test if a message is neither on the server nor among mail.
func (c *chance) expectKept(mail []string) {
	c.t.Helper()
	for _, m := range c.drop.Messages() {
		mail = append(mail, strings.ReplaceAll(string(m.Data), "\r\n", "\n"))
	}
	for _, w := range c.want {
		if !slices.Contains(mail, w) {
			c.t.Fatalf("lost %q, after\n%s", w, strings.Join(c.log, "\n"))
		}
	}
}

// moody is a server of SMTP or LMTP.
type moody struct {
	mu sync.Mutex
	*rand.Rand
	lmtp bool
	bad  int // one reply in so many is none that it should be; 0 is none
	// taken and lost count, by the message's number and the recipient, what it took
	// and what of that it did not confirm.
	taken, lost map[string]int
}

func (m *moody) be(bad int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = bad
}

// mail returns those of the first n messages that all recipients have, and one again
// for each time that somebody got it too often.
func (m *moody) mail(n int) (mail []string) {
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

// answer is what it says instead of a reply of 250, and whether it hangs up then.
func (m *moody) answer() (reply string, end bool) {
	if m.bad == 0 || m.IntN(m.bad) > 0 {
		return "250 2.0.0 fine", false
	}
	reply = []string{"", "421 4.3.2 bye", "450 4.7.1 greylisted", "452 4.3.1 full", "550 5.7.1 spam"}[m.IntN(5)]
	return reply, reply == "" || reply[:3] == "421"
}

// say answers a command, with usual where it would say 250, unless that is empty.
func (m *moody) say(w io.Writer, usual string) (fine, end bool) {
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

var numbered = regexp.MustCompile(`\nSubject: number ([0-9]+)\r\n`)

func (m *moody) serve(conn net.Conn) {
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
		usual := map[string]string{"DATA": "354 go on", "QUIT": "221 bye"}[line[:4]]
		fine, end := m.say(conn, usual)
		switch {
		case end, line[:4] == "QUIT":
			return
		case line[:4] == "MAIL", line[:4] == "RSET":
			to = nil
		case line[:4] == "RCPT" && fine:
			to = append(to, line[len("RCPT TO:<"):len(line)-len(">\r\n")])
		case line[:4] == "DATA" && fine:
			var body strings.Builder
			for line = ""; line != ".\r\n"; body.WriteString(line) {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			if m.take(conn, numbered.FindStringSubmatch(body.String())[1], to) {
				return
			}
		}
	}
}

// take takes a message, or does not, and says so, or does not. It reports whether it
// hangs up.
func (m *moody) take(w io.Writer, number string, to []string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	answers := [][]string{to}
	if m.lmtp { // RFC 2033 §4.2
		answers = slices.Collect(slices.Chunk(to, 1))
	}
	for _, to := range answers {
		reply, end := m.answer()
		for _, to := range to {
			if mute := reply == "" && m.IntN(2) == 0; mute || reply != "" && reply[0] == '2' {
				m.taken[number+to]++
				if mute {
					m.lost[number+to]++
				}
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
