package fetch_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// TestServerFaultsByChance has servers that refuse, hang up, send too much, and list and
// delete only a part, and processes that are killed meanwhile. At no time is a message
// missing both from the server and from a sink. In the end each message is in every sink:
// once, unless the server sent it twice.
func TestServerFaultsByChance(t *testing.T) {
	for seed := range uint64(120) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			l := newFaultyServer(t, seed)
			for at := range 5 {
				l.day(at)
			}
			l.settle(8, func(mail []string) []string {
				if l.doubled {
					return slices.Compact(mail)
				}
				return mail
			})
		})
	}
}

// faultyServer is an account of such a server.
type faultyServer struct {
	*chance
	top     bool // the server has TOP
	doubled bool // a whole message was sent twice
}

func newFaultyServer(t *testing.T, seed uint64) *faultyServer {
	l := &faultyServer{chance: &chance{Rand: rand.New(rand.NewPCG(seed, 1)), message: message}, top: true}
	var without []string
	if l.oneIn(4) {
		without, l.top = append(without, "TOP"), false
	} else if l.oneIn(4) {
		without = append(without, "UIDL")
	}
	if l.oneIn(4) {
		without = append(without, "PIPELINING")
	}
	l.rig = newRig(t, pop3test.Behaviour{Without: without})
	l.retryInUse = true
	l.sinks = map[string]func() []string{"home": l.mail}
	l.account.Keep = []fetch.Keep{{}, {}, {For: day}, {For: 3 * day}, {Forever: true}}[l.IntN(5)]
	if l.oneIn(3) {
		l.account.MaxMessages = l.IntN(5)
	}
	if l.oneIn(4) {
		l.archive()
	}
	l.numbers = l.oneIn(3)
	l.logSetting(without)
	return l
}

// day has new mail come, faults ordered, and a poll that may be killed.
func (l *faultyServer) day(at int) {
	l.add(l.IntN([]int{3, 8, 30}[l.IntN(3)]))
	for range l.IntN(3) {
		l.orderFault(at)
	}
	if l.oneIn(4) {
		left := l.IntN(8)
		l.logf("day %d: killed before write %d", at, left)
		l.opts.State = &killedAfterWrites{State: l.store, left: left}
	}
	l.pollOn(at)
	l.opts.State = l.store
	for name, mail := range l.sinks {
		l.expectNoneLost(name, mail())
	}
	l.advance(time.Duration(l.IntN(30)) * time.Hour)
}

// orderFault orders a fault for one of the next sessions.
func (l *faultyServer) orderFault(at int) {
	verbs := []string{"RETR", "RETR", "DELE", "DELE", "STAT", "STAT", "TOP", "UIDL", "LIST", "QUIT", "CAPA"}
	verb, session, nth := verbs[l.IntN(len(verbs))], l.drop.Sessions()+1+l.IntN(2), 1
	if slices.Contains([]string{"RETR", "DELE", "STAT", "TOP"}, verb) {
		nth += l.IntN(6)
	}
	end := []pop3test.End{pop3test.HangUp, pop3test.Reset}[l.IntN(2)]
	all := []struct {
		what  string
		fault pop3test.Fault
	}{
		{"refused", pop3test.ReplyErr(verb, "no").Nth(nth)},
		{"refused for a time", pop3test.ReplyErr(verb, "[SYS/TEMP] later")},
		{"cut", pop3test.CutIn(verb, int64(l.IntN(60)), end).Nth(nth)},
		{"cut after some octets", pop3test.CutAfter(int64(200+l.IntN(4000)), end)},
		{"reply lost", pop3test.LoseReply(verb, end).Nth(nth)},
		{"ignored", pop3test.Ignore(verb, end).Nth(nth)},
		{"a refusal too many", tooMany(verb).Nth(nth)},
		{"a listing in part", pop3test.PartialListing(func(uid string) bool { return !strings.HasSuffix(uid, "1") })},
		{"a listing of nothing", pop3test.EmptyListing()},
		{"deleted in part", pop3test.KeepAtQuit(func(uid string) bool { return strings.HasSuffix(uid, "2") })},
		{"an OK too many", pop3test.Prepend("DELE", "+OK\r\n").Nth(nth)},
		{"twice", twice.Nth(nth)},
	}
	if !l.top { // without TOP, nothing would show that later replies are another message's
		all = all[:len(all)-1]
	}
	lie := all[l.IntN(len(all))]
	l.doubled = l.doubled || lie.what == "twice"
	l.logf("day %d: %s, %s %d, session %d", at, lie.what, verb, nth, session)
	l.drop.Order(lie.fault.Session(session))
}
