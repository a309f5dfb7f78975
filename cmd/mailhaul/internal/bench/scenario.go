package main

import "time"

// scenario is one thing that fetchers are made to do.
type scenario struct {
	name, title string
	accounts    int
	messages    int // of each account
	size        sizeFunc
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
	contender string
	against   string // a contender, or one of the following
	bound     float64
}

// anything is no bound: it is of interest only.
const noBound = 0

const (
	fastestSingle     = "the fastest peer with one connection"
	fastestConcurrent = "the fastest peer with one for each account"
	sameInScenarioE   = "with a tenth of the messages (e)" // itself
	peakMemory        = "MiB of memory, at the peak, are"  // most is a bound in MiB
)

const (
	drain32     = "drain (32 connections)"
	drain200    = "drain (200 connections)"
	oursName    = "mailhaul"
	ours200Name = "mailhaul (200 connections)"
	longLine    = 50 * time.Millisecond
	tinyMail    = 1 << 10
	largeMail   = 100 << 20
	peakSingle  = 32
	peakMany    = 64
)

// within are the usual three targets.
func usualTargets(drain, peer float64) []target {
	return []target{{oursName, drainName, drain}, {oursName, fastestSingle, peer}, {oursName, peakMemory, peakSingle}}
}

// single are those who fetch from one account.
var singleAccount = []contender{drainWith(drainName, 1), mailhaulWith(oursName, 1), fetchmail, mpop, getmail, fdm}

var scenarios = []scenario{
	{
		name: "a", title: "1,000 messages, loopback, no TLS",
		accounts: 1, messages: 1000, size: lognormal,
		contenders: singleAccount, targets: usualTargets(2.0, 0.8),
	},
	{
		name: "a-tmpfs", title: "the same, into a file system in memory",
		accounts: 1, messages: 1000, size: lognormal, memory: true,
		contenders: singleAccount, targets: usualTargets(1.2, 1.0),
	},
	{
		name: "b", title: "1,000 messages, loopback, TLS",
		accounts: 1, messages: 1000, size: lognormal, tls: true,
		contenders: singleAccount, targets: usualTargets(1.7, 0.8),
	},
	{
		name: "c", title: "500 messages, a round trip of 50 ms",
		accounts: 1, messages: 500, size: lognormal, rtt: longLine,
		contenders: singleAccount, targets: usualTargets(1.6, 0.6),
	},
	{
		name: "d", title: "50 accounts with 20 messages each, a round trip of 50 ms",
		accounts: 50, messages: 20, size: lognormal, rtt: longLine,
		contenders: []contender{drainWith(drain32, 32), mailhaulWith(oursName, 32), fetchmail, mpop, mpopEach, getmail, getmailEach, fdmConcurrent()},
		targets:    []target{{oursName, drain32, 1.6}, {oursName, fastestSingle, 0.2}, {oursName, fastestConcurrent, noBound}, {oursName, peakMemory, peakSingle}},
	},
	{
		name: "e", title: "nothing new among 20,000 messages",
		accounts: 1, messages: 20_000, size: fixedSize(tinyMail), keep: true,
		contenders: singleAccount, targets: usualTargets(1.6, 1.2),
	},
	{
		name: "e200", title: "nothing new among 200,000 messages",
		accounts: 1, messages: 200_000, size: fixedSize(tinyMail), keep: true,
		contenders: singleAccount[:2], targets: []target{{oursName, sameInScenarioE, 12}},
	},
	{
		name: "f", title: "one message of 100 MB",
		accounts: 1, messages: 1, size: fixedSize(largeMail),
		contenders: singleAccount, targets: usualTargets(1.3, 1.0),
	},
	{
		name: "g", title: "200 accounts with nothing new, a round trip of 50 ms",
		accounts: 200, messages: 5, size: fixedSize(tinyMail), rtt: longLine, keep: true,
		contenders: []contender{
			drainWith(drain32, 32), drainWith(drain200, 200), mailhaulWith(oursName, 32), mailhaulWith(ours200Name, 200),
			fetchmail, mpop, mpopEach, getmail, getmailEach, fdmConcurrent(),
		},
		targets: []target{
			{oursName, drain32, 1.3}, {ours200Name, fastestConcurrent, 1.0}, {oursName, peakMemory, peakMany}, {ours200Name, peakMemory, peakMany},
		},
	},
}
