package fetch_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestByChance has random days of mail, of servers that number their unique-ids or rename
// all mail, and of faults. In the end every sink has every message once.
func TestByChance(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			c := newChance(t, seed)
			for at := range 5 {
				c.day(at)
			}
			c.settle(6, nil)
		})
	}
}

// chance is a rig to which random things happen. Its log tells them if the test fails.
type chance struct {
	*rig
	*rand.Rand
	message func(int) string
	numbers bool // the unique-ids are message numbers
	added   int
	want    []string
	sinks   map[string]func() []string
	log     []string
}

func newChance(t *testing.T, seed uint64) *chance {
	c := &chance{Rand: rand.New(rand.NewPCG(seed, 0)), message: message}
	var without []string
	if c.oneIn(3) {
		without = []string{"TOP"}
	}
	c.rig = newRig(t, pop3test.Behaviour{Without: without})
	c.sinks = map[string]func() []string{"home": c.mail}
	if c.oneIn(3) {
		c.message = sameHeader
	}
	c.account.Keep = []fetch.Keep{{}, {For: day}, {For: 3 * day}, {Forever: true}}[c.IntN(4)]
	c.account.MaxMessages = c.IntN(4)
	if c.oneIn(2) {
		c.archive()
	}
	c.numbers = !c.oneIn(3)
	c.logSetting(without)
	return c
}

// archive adds a second sink.
func (c *chance) archive() {
	archive, mail := c.newMaildir("archive")
	c.account.Deliver = append(c.account.Deliver, archive)
	c.sinks["archive"] = mail
}

// logSetting logs how the account is set up; without is what its server lacks.
func (c *chance) logSetting(without []string) {
	c.logf("without %q, keep %+v, %d in a session, %d sinks, numbers %v",
		without, c.account.Keep, c.account.MaxMessages, len(c.sinks), c.numbers)
}

// add adds n messages, and ends all faults of the server.
func (c *chance) add(n int) {
	for range n {
		c.added++
		c.drop.Add("x"+strconv.Itoa(c.added), []byte(c.message(c.added)))
		c.want = append(c.want, c.message(c.added))
	}
	c.number()
	c.drop.ClearFaults()
}

// pollOn polls on a day.
func (c *chance) pollOn(at int) {
	s := c.poll()
	c.logf("day %d: %v, %d of %d messages, %d deleted, left %q: %v", at, s.Class, s.Fetched, c.added, s.Deleted, c.left(), s.Err)
}

// settle polls for some days without faults, and then fails the test unless each sink has
// all messages. seen, if it is not nil, returns those of a sink's messages that count.
func (c *chance) settle(days int, seen func(mail []string) []string) {
	c.drop.ClearFaults()
	for range days {
		c.advance(day)
		c.poll()
		c.number()
	}
	slices.Sort(c.want)
	for name, mail := range c.sinks {
		got := mail()
		slices.Sort(got)
		if seen != nil {
			got = seen(got)
		}
		if !slices.Equal(got, c.want) {
			c.t.Errorf("%s has\n\t%q, not\n\t%q, after\n%s", name, got, c.want, strings.Join(c.log, "\n"))
		}
	}
}

// expectNoneLost fails the test if a message is neither on the server nor among mail, which
// are the messages in a sink.
func (c *chance) expectNoneLost(sink string, mail []string) {
	c.t.Helper()
	for _, m := range c.drop.Messages() {
		mail = append(mail, strings.ReplaceAll(string(m.Data), "\r\n", "\n"))
	}
	for _, w := range c.want {
		if !slices.Contains(mail, w) {
			c.t.Fatalf("%s has lost %q, after\n%s", sink, w, strings.Join(c.log, "\n"))
		}
	}
}

// oneIn returns true once in n times.
func (c *chance) oneIn(n int) bool { return c.IntN(n) == 0 }

func (c *chance) logf(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

// number has the server use message numbers as unique-ids, if it is such a server.
func (c *chance) number() {
	if c.numbers {
		c.numberUIDs()
	}
}

// day has new mail come, perhaps a fault, and a poll.
func (c *chance) day(at int) {
	c.add(c.IntN(3))
	home := c.account.Deliver[0].Sink
	if c.oneIn(2) {
		c.orderFault(at)
	}
	c.pollOn(at)
	c.account.Deliver[0].Sink = home
	c.advance(time.Duration(c.IntN(30)) * time.Hour)
	c.number()
}

func (c *chance) orderFault(at int) {
	session, nth := c.drop.Sessions()+1+c.IntN(2), 1+c.IntN(3)
	faults := []pop3test.Fault{
		lostQuit,
		pop3test.CutIn("RETR", 20, pop3test.Reset).Nth(nth),
		pop3test.CutIn("TOP", 10, pop3test.Reset).Nth(nth),
		pop3test.ReplyErr("RETR", "no").Nth(nth),
		pop3test.ReplyErr("TOP", "no").Nth(nth),
		pop3test.ReplyErr("DELE", "no").Nth(nth),
	}
	switch k := c.IntN(len(faults) + 2); {
	case k < len(faults):
		c.logf("day %d: fault %d, session %d, time %d", at, k, session, nth)
		c.drop.Order(faults[k].Session(session))
	case k == len(faults) && len(c.sinks) > 1:
		c.logf("day %d: home is down", at)
		c.account.Deliver[0].Sink = unusable{c.account.Deliver[0].Sink}
	case k > len(faults) && !c.numbers:
		c.logf("day %d: all is renamed", at)
		c.drop.SetUIDs(func(_ int, old string) string { return strconv.Itoa(at) + old })
	}
}
