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

// TestLiesByChance has servers that refuse, hang up, say too much, and list and
// delete but a part, one after the other and together, and processes that are killed
// meanwhile. At no time is a message neither on the server nor in the sinks; and in
// the end each is in every sink: once, unless the server gave it twice.
func TestLiesByChance(t *testing.T) {
	for seed := range uint64(120) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			l := newLies(t, seed)
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

// lies is an account of a server that lies.
type lies struct {
	*chance
	top     bool // it has TOP
	doubled bool // a message came twice
}

func newLies(t *testing.T, seed uint64) *lies {
	l := &lies{chance: &chance{Rand: rand.New(rand.NewPCG(seed, 1)), message: message}, top: true}
	var without []string
	if l.once(4) {
		without, l.top = append(without, "TOP"), false
	} else if l.once(4) {
		without = append(without, "UIDL")
	}
	if l.once(4) {
		without = append(without, "PIPELINING")
	}
	l.rig = newRig(t, pop3test.Behaviour{Without: without})
	l.patient = true
	l.sinks = map[string]func() []string{"home": l.mail}
	l.account.Keep = []fetch.Keep{{}, {}, {For: day}, {For: 3 * day}, {Forever: true}}[l.IntN(5)]
	if l.once(3) {
		l.account.MaxMessages = l.IntN(5)
	}
	if l.once(4) {
		l.archive()
	}
	l.numbers = l.once(3)
	l.begin(without)
	return l
}

// day is a day with mail, lies and a poll, which may be killed.
func (l *lies) day(at int) {
	l.add(l.IntN([]int{3, 8, 30}[l.IntN(3)]))
	for range l.IntN(3) {
		l.lie(at)
	}
	if l.once(4) {
		left := l.IntN(8)
		l.note("day %d: killed before it notes thing %d", at, left)
		l.opts.State = &doomed{State: l.store, left: left}
	}
	l.pollOn(at)
	l.opts.State = l.store
	var left []string
	for _, m := range l.drop.Messages() {
		left = append(left, strings.ReplaceAll(string(m.Data), "\r\n", "\n"))
	}
	for name, mail := range l.sinks {
		got := mail()
		for _, w := range l.want {
			if !slices.Contains(left, w) && !slices.Contains(got, w) {
				l.t.Fatalf("%s has lost %q, after\n%s", name, w, strings.Join(l.log, "\n"))
			}
		}
	}
	l.later(time.Duration(l.IntN(30)) * time.Hour)
}

// lie orders a fault for one of the next sessions.
func (l *lies) lie(at int) {
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
	if !l.top { // nothing would tell what follows from what it is called
		all = all[:len(all)-1]
	}
	lie := all[l.IntN(len(all))]
	l.doubled = l.doubled || lie.what == "twice"
	l.note("day %d: %s, %s %d, session %d", at, lie.what, verb, nth, session)
	l.drop.Order(lie.fault.Session(session))
}
