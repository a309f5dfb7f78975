package main

import "time"

// scenario is one thing that fetchers are made to do.
type scenario struct {
	name, title string
	accounts    int
	messages    int // of each account
	size        sizes
	rtt         time.Duration
	tls         bool
	memory      bool // mail and state go to a file system in memory, where a sync is free
	keep        bool // all mail has been seen and stays: the poll finds nothing new
	contenders  []contender
	targets     []target
}

// target is what mailhaul is to reach in a scenario: who takes at most so many
// times as long as against.
type target struct {
	who     string
	against string // a contender, or one of the following
	most    float64
}

// anything is no bound: it is of interest only.
const anything = 0

const (
	fastestPeer = "the fastest peer with one connection"
	fastestEach = "the fastest peer with one for each account"
	inScenarioE = "with a tenth of the messages (e)" // itself
	peakMemory  = "MiB of memory, at the peak, are"  // most is a bound in MiB
)

const (
	drain32    = "drain (32 connections)"
	drain200   = "drain (200 connections)"
	ours       = "mailhaul"
	ours200    = "mailhaul (200 connections)"
	longLine   = 50 * time.Millisecond
	tinyMail   = 1 << 10
	largeMail  = 100 << 20
	peakSingle = 32
	peakMany   = 64
)

// within are the usual three targets.
func within(drain, peer float64) []target {
	return []target{{ours, drainName, drain}, {ours, fastestPeer, peer}, {ours, peakMemory, peakSingle}}
}

// single are those who fetch from one account.
var single = []contender{theDrain(drainName, 1), mailhaul(ours, 1), fetchmail, mpop, getmail, fdm}

var scenarios = []scenario{
	{
		name: "a", title: "1,000 messages, loopback, no TLS",
		accounts: 1, messages: 1000, size: lognormal,
		contenders: single, targets: within(2.0, 0.8),
	},
	{
		name: "a-tmpfs", title: "the same, into a file system in memory",
		accounts: 1, messages: 1000, size: lognormal, memory: true,
		contenders: single, targets: within(1.2, 1.0),
	},
	{
		name: "b", title: "1,000 messages, loopback, TLS",
		accounts: 1, messages: 1000, size: lognormal, tls: true,
		contenders: single, targets: within(1.7, 0.8),
	},
	{
		name: "c", title: "500 messages, a round trip of 50 ms",
		accounts: 1, messages: 500, size: lognormal, rtt: longLine,
		contenders: single, targets: within(1.6, 0.6),
	},
	{
		name: "d", title: "50 accounts with 20 messages each, a round trip of 50 ms",
		accounts: 50, messages: 20, size: lognormal, rtt: longLine,
		contenders: []contender{theDrain(drain32, 32), mailhaul(ours, 32), fetchmail, mpop, mpopEach, getmail, getmailEach, fdmAll()},
		targets:    []target{{ours, drain32, 1.6}, {ours, fastestPeer, 0.2}, {ours, fastestEach, anything}, {ours, peakMemory, peakSingle}},
	},
	{
		name: "e", title: "nothing new among 20,000 messages",
		accounts: 1, messages: 20_000, size: exactly(tinyMail), keep: true,
		contenders: single, targets: within(1.6, 1.2),
	},
	{
		name: "e200", title: "nothing new among 200,000 messages",
		accounts: 1, messages: 200_000, size: exactly(tinyMail), keep: true,
		contenders: single[:2], targets: []target{{ours, inScenarioE, 12}},
	},
	{
		name: "f", title: "one message of 100 MB",
		accounts: 1, messages: 1, size: exactly(largeMail),
		contenders: single, targets: within(1.3, 1.0),
	},
	{
		name: "g", title: "200 accounts with nothing new, a round trip of 50 ms",
		accounts: 200, messages: 5, size: exactly(tinyMail), rtt: longLine, keep: true,
		contenders: []contender{
			theDrain(drain32, 32), theDrain(drain200, 200), mailhaul(ours, 32), mailhaul(ours200, 200),
			fetchmail, mpop, mpopEach, getmail, getmailEach, fdmAll(),
		},
		targets: []target{
			{ours, drain32, 1.3}, {ours200, fastestEach, 1.0}, {ours, peakMemory, peakMany}, {ours200, peakMemory, peakMany},
		},
	},
}
