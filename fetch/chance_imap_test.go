package fetch_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestIMAPByChance delivers to an IMAP server that hangs up, refuses, is full, and has its
// folder changed, with processes that are killed meanwhile. At no time is a message
// missing from both servers. Messages that the IMAP server never takes hold up no others.
// In the end all have been delivered: once, unless nobody could tell.
func TestIMAPByChance(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			m := newIMAPAccount(t, seed)
			for at := range 4 {
				m.day(at)
			}
			m.finishAll()
		})
	}
}

// imapAccount is an account that delivers to a faulty IMAP server.
type imapAccount struct {
	*chance
	mailbox   *imapServer
	options   imap.Options
	dir       string          // the spool
	uncertain map[string]bool // messages of which nobody can tell whether they were delivered

	mu sync.Mutex // guards chance.log
}

func newIMAPAccount(t *testing.T, seed uint64) *imapAccount {
	m := &imapAccount{chance: &chance{Rand: rand.New(rand.NewPCG(seed, 2))}, dir: filepath.Join(t.TempDir(), "spool"), uncertain: map[string]bool{}}
	m.rig = newRig(t, pop3test.Behaviour{})
	m.retryInUse, m.message = true, m.letter
	caps := []string{"", "UIDPLUS", "LITERAL+", "LITERAL-", "UIDPLUS LITERAL-", "UIDPLUS LITERAL+", "LITERAL+ MULTIAPPEND", "UIDPLUS LITERAL+ MULTIAPPEND"}
	m.mailbox = &imapServer{Rand: rand.New(rand.NewPCG(seed, 3)), caps: caps[m.IntN(len(caps))], noUIDs: m.oneIn(6), keepsPart: m.oneIn(2), faultPercent: 5 + m.IntN(30)}
	m.mailbox.logf = m.logf
	if m.oneIn(2) {
		m.mailbox.search = []string{"nothing", "all", "BAD"}[m.IntN(3)]
	}
	if m.oneIn(2) {
		answers := []string{"cut", "bye", "NO", "BAD", "NO [SERVERBUG]", "NO [NOPERM]", "NO [OVERQUOTA]", "NO [TRYCREATE]"}
		m.mailbox.poison = answers[m.IntN(len(answers))]
	}
	m.options.Create = true
	m.options.Server = remote.Server{Addr: startIMAP(t, m.mailbox), Security: remote.PlainText, User: user, Secret: m.account.Secret, Timeout: time.Minute}
	m.sinks = map[string]func() []string{}
	if m.oneIn(4) {
		m.archive()
	}
	if m.oneIn(4) {
		m.account.MaxMessages = 3
	}
	m.restart()
	m.logf("caps %q, SEARCH %q, poison %q, %d sinks", m.mailbox.caps, m.mailbox.search, m.mailbox.poison, len(m.account.Deliver))
	return m
}

// logf is that of chance, for several goroutines.
func (m *imapAccount) logf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chance.logf(format, args...)
}

// letter returns a message. One in eight is poison, and one in six has no Message-ID.
func (m *imapAccount) letter(i int) string {
	what, id := "number", fmt.Sprintf("Message-ID: <%d@example.net>\n", i)
	if i%8 == 5 {
		what = "POISON"
	}
	if i%6 == 1 {
		id = ""
	}
	return fmt.Sprintf("%sSubject: %s %d\n\n%sbody\n", id, what, i, strings.Repeat("line\n", []int{0, 9, 900, 9000}[i%4]))
}

// restart replaces the sink by a new one, as in a process that was just started.
func (m *imapAccount) restart() {
	m.account.Deliver[0].Sink.Close()
	m.mailbox.waitIdle()
	m.options.Spool = spool.New(m.dir, durable.OS)
	sink, err := imap.New(m.options)
	check(m.t, err)
	m.account.Deliver[0].Sink = sink
	m.t.Cleanup(func() { sink.Close() })
}

// day has new mail come, something happen to the folder, and a poll that may be killed.
func (m *imapAccount) day(at int) {
	m.add(m.IntN([]int{3, 8, 30}[m.IntN(3)]))
	m.changeFolder()
	ctx, kill := context.WithCancel(m.t.Context())
	defer kill()
	if m.oneIn(3) {
		state := &killedAfterWrites{State: m.store, left: -1}
		m.opts.State = state
		if left := m.IntN(40); left < 8 {
			m.logf("day %d: killed before write %d", at, left)
			state.left = left
		} else {
			m.logf("day %d: killed at command %d", at, left)
			m.mailbox.onCommand = func(string) {
				if left--; left == 0 {
					state.mu.Lock()
					defer state.mu.Unlock()
					state.left = 0
					kill()
				}
			}
		}
	}
	m.pollDuring(ctx, at)
	m.restart()
	m.mailbox.onCommand, m.opts.State = nil, m.store
	m.expectNoneLostByIMAP()
	m.advance(time.Duration(m.IntN(30)) * time.Hour)
}

// pollDuring polls until ctx is done, again while the maildrop is locked.
func (m *imapAccount) pollDuring(ctx context.Context, at int) {
	s := m.account.Poll(ctx, m.opts)
	for inUse(s.Err) && ctx.Err() == nil {
		s = m.account.Poll(ctx, m.opts)
	}
	m.logf("day %d: %v, %d of %d messages, %d refused, %d deleted, %d left: %v", at, s.Class, s.Fetched, m.added, s.Refused, s.Deleted, len(m.left()), s.Err)
	if s.Err != nil && strings.Contains(s.Err.Error(), secret) {
		m.t.Errorf("the password is in %v", s.Err)
	}
}

// changeFolder has something happen to the folder, and orders faults.
func (m *imapAccount) changeFolder() {
	b := m.mailbox
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = m.IntN(4)
	unsure := func(text string) bool {
		return b.search == "nothing" || b.search == "BAD" || !strings.Contains(text, "Message-ID")
	}
	what := m.IntN(10)
	m.logf("event %d", what)
	switch {
	case what == 0 || b.mail == nil: // it is made anew
		b.create()
		m.markUncertain(func(string) bool { return true })
	case what == 1:
		b.mail = nil
		m.markUncertain(func(string) bool { return true })
	case what == 2:
		b.renumber()
		m.markUncertain(unsure)
	case what == 3: // its owner takes mail away
		for _, uid := range sortedKeys(b.mail) {
			if text := b.mail[uid]; m.oneIn(2) {
				delete(b.mail, uid)
				m.markUncertain(func(t string) bool { return t == text })
			}
		}
	case what == 4:
		b.quota = b.octets() + m.IntN(20000)
	case what == 5:
		b.quota = 0
	case what == 6:
		for i := range 10 + 150*m.IntN(2) {
			b.put(fmt.Sprintf("Subject: another's\r\n\r\n%d\r\n", i))
		}
		m.markUncertain(func(string) bool { return b.search == "all" }) // SEARCH finds too many messages to compare
	}
}

// markUncertain notes the messages on the POP3 server of which nobody can tell any more
// whether they were delivered.
func (m *imapAccount) markUncertain(which func(text string) bool) {
	for _, left := range m.drop.Messages() {
		if text := string(left.Data); which(text) {
			m.uncertain[text] = true
		}
	}
}

// wire returns a message as POP3 and IMAP send it.
func wire(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// expectNoneLostByIMAP fails the test if a message is neither on the POP3 server nor was ever
// appended.
func (m *imapAccount) expectNoneLostByIMAP() {
	left := map[string]bool{}
	for _, l := range m.drop.Messages() {
		left[string(l.Data)] = true
	}
	for _, w := range m.want {
		if text := wire(w); !left[text] && m.mailbox.appended[text] == 0 {
			m.fail("lost %.60q", w)
		}
	}
}

// fail ends the test with the log of what has happened.
func (m *imapAccount) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf(format+", after\n%s", append(args, strings.Join(m.log, "\n"))...)
}

// finishAll polls for days without faults, but with poison, until the rest is delivered;
// and then without poison.
func (m *imapAccount) finishAll() {
	m.mailbox.faults, m.mailbox.quota = 0, 0
	for _, cured := range []bool{false, true} {
		stuck := ""
		for at := 0; at == 0 || at < 60 && stuck != ""; at++ {
			m.advance(day)
			m.pollDuring(m.t.Context(), 10+at)
			stuck = ""
			for _, left := range m.drop.Messages() {
				if cured || m.mailbox.poison == "" || !strings.Contains(string(left.Data), "POISON") {
					stuck = cmp.Or(stuck, left.UID)
				}
			}
		}
		if stuck != "" {
			m.fail("%s is stuck", stuck)
		}
		m.restart()
		m.mailbox.poison = ""
	}
	for _, w := range m.want {
		text := wire(w)
		if n := m.mailbox.appended[text]; n != 1 && !(n > 1 && m.uncertain[text]) {
			m.fail("%.60q came %d times", w, n)
		}
	}
	m.settle(1, nil)
}
