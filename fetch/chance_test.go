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

// TestByChance has days of mail, of servers that number their unique-ids or
// rename all mail, and of trouble, as chance has them. Whatever comes together,
// in the end every sink has every message once.
func TestByChance(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			c := newChance(t, seed)
			for at := range 5 {
				c.day(at)
			}
			c.settle(6, func(mail []string) []string { return mail })
		})
	}
}

// chance is an account to which things happen.
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
	if c.once(3) {
		without = []string{"TOP"}
	}
	c.rig = newRig(t, pop3test.Behaviour{Without: without})
	c.sinks = map[string]func() []string{"home": c.mail}
	if c.once(3) {
		c.message = alike
	}
	c.account.Keep = []fetch.Keep{{}, {For: day}, {For: 3 * day}, {Forever: true}}[c.IntN(4)]
	c.account.MaxMessages = c.IntN(4)
	if c.once(2) {
		c.archive()
	}
	c.numbers = !c.once(3)
	c.begin(without)
	return c
}

// archive adds a second sink.
func (c *chance) archive() {
	archive, mail := c.another("archive")
	c.account.Deliver = append(c.account.Deliver, archive)
	c.sinks["archive"] = mail
}

// begin notes what is known of the account; without is what its server lacks.
func (c *chance) begin(without []string) {
	c.note("without %q, keep %+v, %d in a session, %d sinks, numbers %v",
		without, c.account.Keep, c.account.MaxMessages, len(c.sinks), c.numbers)
}

// add adds n messages. Whatever was wrong with the server is over.
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
	c.note("day %d: %v, %d of %d messages, %d deleted, left %q: %v", at, s.Class, s.Fetched, c.added, s.Deleted, c.left(), s.Err)
}

// settle has some days without trouble, and then each sink have what is wanted. seen
// says what of its mail counts.
func (c *chance) settle(days int, seen func(mail []string) []string) {
	c.drop.ClearFaults()
	for range days {
		c.later(day)
		c.poll()
		c.number()
	}
	slices.Sort(c.want)
	for name, mail := range c.sinks {
		got := mail()
		slices.Sort(got)
		if got = seen(got); !slices.Equal(got, c.want) {
			c.t.Errorf("%s has\n\t%q, not\n\t%q, after\n%s", name, got, c.want, strings.Join(c.log, "\n"))
		}
	}
}

// once is true once in n times.
func (c *chance) once(n int) bool { return c.IntN(n) == 0 }

func (c *chance) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

// number gives messages their numbers for unique-ids.
func (c *chance) number() {
	if c.numbers {
		c.drop.SetUIDs(func(i int, _ string) string { return strconv.Itoa(i + 1) })
	}
}

// day is a day with mail, perhaps trouble, and a poll.
func (c *chance) day(at int) {
	c.add(c.IntN(3))
	home := c.account.Deliver[0].Sink
	if c.once(2) {
		c.trouble(at)
	}
	c.pollOn(at)
	c.account.Deliver[0].Sink = home
	c.later(time.Duration(c.IntN(30)) * time.Hour)
	c.number()
}

func (c *chance) trouble(at int) {
	session, nth := c.drop.Sessions()+1+c.IntN(2), 1+c.IntN(3)
	faults := []pop3test.Fault{
		lost,
		pop3test.CutIn("RETR", 20, pop3test.Reset).Nth(nth),
		pop3test.CutIn("TOP", 10, pop3test.Reset).Nth(nth),
		pop3test.ReplyErr("RETR", "no").Nth(nth),
		pop3test.ReplyErr("TOP", "no").Nth(nth),
		pop3test.ReplyErr("DELE", "no").Nth(nth),
	}
	switch k := c.IntN(len(faults) + 2); {
	case k < len(faults):
		c.note("day %d: fault %d, session %d, time %d", at, k, session, nth)
		c.drop.Order(faults[k].Session(session))
	case k == len(faults) && len(c.sinks) > 1:
		c.note("day %d: home is down", at)
		c.account.Deliver[0].Sink = unusable{c.account.Deliver[0].Sink}
	case k > len(faults) && !c.numbers:
		c.note("day %d: all is renamed", at)
		c.drop.SetUIDs(func(_ int, old string) string { return strconv.Itoa(at) + old })
	}
}
