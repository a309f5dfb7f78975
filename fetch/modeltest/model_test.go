package modeltest

import (
	"fmt"
	"os"
	"testing"
)

// schedule bounds what is explored.
type schedule struct {
	messages, batch int
	overlap         bool
	troubles, moves int
}

// exhaustive asks for what takes minutes.
var exhaustive = os.Getenv("MAILHAUL_CRASH") == "full"

var schedules = []schedule{
	{messages: 1, batch: 1, troubles: 2},
	{messages: 1, batch: 1, troubles: 1, moves: 1},
	{messages: 2, batch: 2, troubles: 1},
	{messages: 2, batch: 1, overlap: true, troubles: 1},
	{messages: 1, batch: 1, troubles: 3},
	{messages: 1, batch: 1, troubles: 2, moves: 1},
	{messages: 1, batch: 1, troubles: 1, moves: 2},
	{messages: 2, batch: 2, troubles: 2},
	{messages: 2, batch: 2, troubles: 1, moves: 1},
	{messages: 2, batch: 1, troubles: 2},
	{messages: 2, batch: 1, overlap: true, troubles: 1, moves: 1},
	{messages: 3, batch: 2, overlap: true, troubles: 1},
	{messages: 3, batch: 1, overlap: true, troubles: 1},
}

// long reports whether a schedule takes more than a few seconds. The mbox sink
// takes three times as many steps as the Maildir sink.
func (c schedule) long(p *place) bool {
	weight := c.messages * (c.troubles + c.moves)
	return weight > 2 || p == mboxes && c.troubles > 1
}

func (c schedule) String() string {
	order := "one after the other"
	if c.overlap {
		order = "overlapped"
	}
	return fmt.Sprintf("%d messages in batches of %d, %s, %d troubles, %d moves",
		c.messages, c.batch, order, c.troubles, c.moves)
}

func (c schedule) setting(p *place, s sabotage) setting {
	return setting{place: p, messages: c.messages, batch: c.batch, overlap: c.overlap, sabotage: s}
}

// Each message arrives exactly once, whole, and is then deleted, whatever
// happens.
func TestExactlyOnce(t *testing.T) {
	for _, p := range both {
		for _, c := range schedules {
			t.Run(p.name+"/"+c.String(), func(t *testing.T) {
				t.Parallel()
				if c.long(p) && !exhaustive {
					t.Skip("MAILHAUL_CRASH=full explores it")
				}
				n, err := c.setting(p, sabotage{}).explore(c.troubles, c.moves)
				if err != nil {
					t.Error(err)
				}
				t.Logf("%d crashes, %d polls, %d different worlds: none lost, doubled, torn or stuck", n.crashes, n.polls, n.worlds)
			})
		}
	}
}

// The model notices whatever is left out.
func TestSabotage(t *testing.T) {
	for _, s := range sabotages {
		for _, p := range s.places {
			t.Run(p.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				c := s.needs
				if c == (schedule{}) {
					c = schedule{messages: 1, batch: 1, troubles: 1}
				}
				if p == mboxes && c.troubles > 1 && !exhaustive {
					t.Skip("MAILHAUL_CRASH=full explores it")
				}
				if _, err := c.setting(p, s).explore(c.troubles, c.moves); err != nil {
					t.Logf("%v: %v", c, err)
					return
				}
				t.Error("nothing went wrong")
			})
		}
	}
}
