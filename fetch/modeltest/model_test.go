package modeltest

import (
	"fmt"
	"os"
	"testing"
)

// schedule bounds what is explored: at most so many faults and moves.
type schedule struct {
	messages, batch int
	overlap         bool
	faults, moves   int
}

// exhaustive asks for the schedules that take minutes.
var exhaustive = os.Getenv("MAILHAUL_CRASH") == "full"

var schedules = []schedule{
	{messages: 1, batch: 1, faults: 2},
	{messages: 1, batch: 1, faults: 1, moves: 1},
	{messages: 2, batch: 2, faults: 1},
	{messages: 2, batch: 1, overlap: true, faults: 1},
	{messages: 1, batch: 1, faults: 3},
	{messages: 1, batch: 1, faults: 2, moves: 1},
	{messages: 1, batch: 1, faults: 1, moves: 2},
	{messages: 2, batch: 2, faults: 2},
	{messages: 2, batch: 2, faults: 1, moves: 1},
	{messages: 2, batch: 1, faults: 2},
	{messages: 2, batch: 1, overlap: true, faults: 1, moves: 1},
	{messages: 3, batch: 2, overlap: true, faults: 1},
	{messages: 3, batch: 1, overlap: true, faults: 1},
}

// long reports whether a schedule takes more than a few seconds. An mbox takes three times
// as many steps as a Maildir.
func (c schedule) long(p *sinkKind) bool {
	weight := c.messages * (c.faults + c.moves)
	return weight > 2 || p == mboxKind && c.faults > 1
}

func (c schedule) String() string {
	order := "one after the other"
	if c.overlap {
		order = "overlapped"
	}
	return fmt.Sprintf("%d messages in batches of %d, %s, %d faults, %d moves",
		c.messages, c.batch, order, c.faults, c.moves)
}

func (c schedule) setting(p *sinkKind, s sabotage) setting {
	return setting{kind: p, messages: c.messages, batch: c.batch, overlap: c.overlap, sabotage: s}
}

// Whatever happens, each message is delivered whole and exactly once, and then deleted
// from the server.
func TestExactlyOnce(t *testing.T) {
	for _, p := range bothKinds {
		for _, c := range schedules {
			t.Run(p.name+"/"+c.String(), func(t *testing.T) {
				t.Parallel()
				if c.long(p) && !exhaustive {
					t.Skip("MAILHAUL_CRASH=full explores it")
				}
				n, err := c.setting(p, sabotage{}).explore(c.faults, c.moves)
				if err != nil {
					t.Error(err)
				}
				t.Logf("%d crashes, %d polls, %d different worlds: none lost, doubled, torn or stuck", n.crashes, n.polls, n.worlds)
			})
		}
	}
}

// The model notices each mistake.
func TestSabotage(t *testing.T) {
	for _, s := range sabotages {
		for _, p := range s.kinds {
			t.Run(p.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				c := s.needs
				if c == (schedule{}) {
					c = schedule{messages: 1, batch: 1, faults: 1}
				}
				if p == mboxKind && c.faults > 1 && !exhaustive {
					t.Skip("MAILHAUL_CRASH=full explores it")
				}
				if _, err := c.setting(p, s).explore(c.faults, c.moves); err != nil {
					t.Logf("%v: %v", c, err)
					return
				}
				t.Error("nothing went wrong")
			})
		}
	}
}
