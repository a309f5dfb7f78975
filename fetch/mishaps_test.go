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

// TestMishapsByChance delivers to an IMAP server that hangs up, refuses, is full and
// has its folder changed, with processes that are killed meanwhile. At no time is a
// message in neither place. Messages that the server never takes hold up no others;
// and in the end all have come: once, unless nobody could tell.
func TestMishapsByChance(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			m := newMishaps(t, seed)
			for at := range 4 {
				m.day(at)
			}
			m.end()
		})
	}
}

// mishaps is an account that delivers to an IMAP server.
type mishaps struct {
	*chance
	box     *box
	options imap.Options
	dir     string          // the spool
	open    map[string]bool // messages of which nobody can tell whether they came

	mu sync.Mutex // for chance.log
}

func newMishaps(t *testing.T, seed uint64) *mishaps {
	m := &mishaps{chance: &chance{Rand: rand.New(rand.NewPCG(seed, 2))}, dir: filepath.Join(t.TempDir(), "spool"), open: map[string]bool{}}
	m.rig = newRig(t, pop3test.Behaviour{})
	m.patient, m.message = true, m.letter
	caps := []string{"", "UIDPLUS", "LITERAL+", "LITERAL-", "UIDPLUS LITERAL-", "UIDPLUS LITERAL+", "LITERAL+ MULTIAPPEND", "UIDPLUS LITERAL+ MULTIAPPEND"}
	m.box = &box{Rand: rand.New(rand.NewPCG(seed, 3)), caps: caps[m.IntN(len(caps))], noUIDs: m.once(6), partly: m.once(2), odds: 5 + m.IntN(30)}
	m.box.note = m.note
	if m.once(2) {
		m.box.search = []string{"nothing", "all", "BAD"}[m.IntN(3)]
	}
	if m.once(2) {
		answers := []string{"cut", "bye", "NO", "BAD", "NO [SERVERBUG]", "NO [NOPERM]", "NO [OVERQUOTA]", "NO [TRYCREATE]"}
		m.box.poison = answers[m.IntN(len(answers))]
	}
	m.options.Create = true
	m.options.Server = remote.Server{Addr: startBox(t, m.box), Security: remote.PlainText, User: user, Secret: m.account.Secret, Timeout: time.Minute}
	m.sinks = map[string]func() []string{}
	if m.once(4) {
		m.archive()
	}
	if m.once(4) {
		m.account.MaxMessages = 3
	}
	m.restart()
	m.note("caps %q, SEARCH %q, poison %q, %d sinks", m.box.caps, m.box.search, m.box.poison, len(m.account.Deliver))
	return m
}

// note is chance's, for the server, too.
func (m *mishaps) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chance.note(format, args...)
}

// letter is a message; one in eight is poison.
func (m *mishaps) letter(i int) string {
	what, id := "number", fmt.Sprintf("Message-ID: <%d@example.net>\n", i)
	if i%8 == 5 {
		what = "POISON"
	}
	if i%6 == 1 {
		id = ""
	}
	return fmt.Sprintf("%sSubject: %s %d\n\n%sbody\n", id, what, i, strings.Repeat("line\n", []int{0, 9, 900, 9000}[i%4]))
}

// restart makes the sink anew, as a process does that was just started.
func (m *mishaps) restart() {
	m.account.Deliver[0].Sink.Close()
	m.box.wait()
	m.options.Spool = spool.New(m.dir, durable.OS)
	sink, err := imap.New(m.options)
	check(m.t, err)
	m.account.Deliver[0].Sink = sink
	m.t.Cleanup(func() { sink.Close() })
}

// day is a day with mail, mishaps and a poll, which may be killed.
func (m *mishaps) day(at int) {
	m.add(m.IntN([]int{3, 8, 30}[m.IntN(3)]))
	m.happen()
	ctx, kill := context.WithCancel(m.t.Context())
	defer kill()
	if m.once(3) {
		state := &doomed{State: m.store, left: -1}
		m.opts.State = state
		if left := m.IntN(40); left < 8 {
			m.note("day %d: killed before it notes thing %d", at, left)
			state.left = left
		} else {
			m.note("day %d: killed at command %d", at, left)
			m.box.heard = func(string) {
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
	m.box.heard, m.opts.State = nil, m.store
	m.whole()
	m.later(time.Duration(m.IntN(30)) * time.Hour)
}

func (m *mishaps) pollDuring(ctx context.Context, at int) {
	s := m.account.Poll(ctx, m.opts)
	for inUse(s.Err) && ctx.Err() == nil {
		s = m.account.Poll(ctx, m.opts)
	}
	m.note("day %d: %v, %d of %d messages, %d refused, %d deleted, %d left: %v", at, s.Class, s.Fetched, m.added, s.Refused, s.Deleted, len(m.left()), s.Err)
	if s.Err != nil && strings.Contains(s.Err.Error(), secret) {
		m.t.Errorf("the password is in %v", s.Err)
	}
}

// happen has something happen to the folder, and orders trouble.
func (m *mishaps) happen() {
	b := m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = m.IntN(4)
	unsure := func(text string) bool {
		return b.search == "nothing" || b.search == "BAD" || !strings.Contains(text, "Message-ID")
	}
	what := m.IntN(10)
	m.note("event %d", what)
	switch {
	case what == 0 || b.mail == nil: // it is made anew, or was
		b.create()
		m.doubt(func(string) bool { return true })
	case what == 1:
		b.mail = nil
		m.doubt(func(string) bool { return true })
	case what == 2:
		b.renumber()
		m.doubt(unsure)
	case what == 3: // its owner takes mail away
		for _, uid := range sortedKeys(b.mail) {
			if text := b.mail[uid]; m.once(2) {
				delete(b.mail, uid)
				m.doubt(func(t string) bool { return t == text })
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
		m.doubt(func(string) bool { return b.search == "all" }) // among so many that are found
	}
}

// doubt notes of which messages nobody can tell whether they came.
func (m *mishaps) doubt(which func(text string) bool) {
	for _, left := range m.drop.Messages() {
		if text := string(left.Data); which(text) {
			m.open[text] = true
		}
	}
}

func wire(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// whole fails the test if a message is neither on the server nor in a sink.
func (m *mishaps) whole() {
	left := map[string]bool{}
	for _, l := range m.drop.Messages() {
		left[string(l.Data)] = true
	}
	for _, w := range m.want {
		if text := wire(w); !left[text] && m.box.came[text] == 0 {
			m.fail("lost %.60q", w)
		}
	}
}

func (m *mishaps) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf(format+", after\n%s", append(args, strings.Join(m.log, "\n"))...)
}

// end has days without trouble but that of poison, and then without that.
func (m *mishaps) end() {
	m.box.troubles, m.box.quota = 0, 0
	for _, cured := range []bool{false, true} {
		stuck := ""
		for at := 0; at == 0 || at < 60 && stuck != ""; at++ {
			m.later(day)
			m.pollDuring(m.t.Context(), 10+at)
			stuck = ""
			for _, left := range m.drop.Messages() {
				if cured || m.box.poison == "" || !strings.Contains(string(left.Data), "POISON") {
					stuck = cmp.Or(stuck, left.UID)
				}
			}
		}
		if stuck != "" {
			m.fail("%s is stuck", stuck)
		}
		m.restart()
		m.box.poison = ""
	}
	for _, w := range m.want {
		text := wire(w)
		if n := m.box.came[text]; n != 1 && !(n > 1 && m.open[text]) {
			m.fail("%.60q came %d times", w, n)
		}
	}
	m.settle(1, func(mail []string) []string { return mail })
}
