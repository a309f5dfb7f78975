package main

import "time"

// scenario is a situation in which the contenders are compared.
type scenario struct {
	name, title string
	accounts    int
	messages    int // of each account
	size        sizeFunc
	rtt         time.Duration // the round trip to the server; 0 is loopback
	tls         bool
	memory      bool // mail and state are in memory, where a sync costs nothing
	keep        bool // all mail has been fetched before and stays: nothing is new
	contenders  []contender
	targets     []target
}

// target is what mailhaul should reach in a scenario: the contender takes at most bound
// times as long as another one.
type target struct {
	contender string
	against   string // the name of the other, or one of the constants below
	bound     float64
}

// noBound is the bound of a comparison that is reported only.
const noBound = 0

// These are comparisons that are not with a contender of a given name.
const (
	fastestSingle     = "the fastest peer with one connection"
	fastestConcurrent = "the fastest peer with one for each account"
	sameInScenarioE   = "with a tenth of the messages (e)" // the same contender in scenario e
	peakMemory        = "MiB of memory, at the peak, are"  // no comparison: the bound is in MiB
)

// Names of contenders, and what several scenarios have in common.
const (
	drain32         = "drain (32 connections)"
	drain200        = "drain (200 connections)"
	mailhaulName    = "mailhaul"
	mailhaul200Name = "mailhaul (200 connections)"

	longRTT = 50 * time.Millisecond

	smallMail = 1 << 10 // bytes
	largeMail = 100 << 20

	maxMemory             = 32 // MiB
	maxMemoryManyAccounts = 64
)

// usualTargets returns bounds for mailhaul's time, in comparison with the drain and the
// fastest peer, and for its memory.
func usualTargets(drain, peer float64) []target {
	return []target{{mailhaulName, drainName, drain}, {mailhaulName, fastestSingle, peer}, {mailhaulName, peakMemory, maxMemory}}
}

// singleAccount are the contenders of scenarios with one account.
var singleAccount = []contender{drainWith(drainName, 1), mailhaulWith(mailhaulName, 1), fetchmail, mpop, getmail, fdm}

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
		accounts: 1, messages: 500, size: lognormal, rtt: longRTT,
		contenders: singleAccount, targets: usualTargets(1.6, 0.6),
	},
	{
		name: "d", title: "50 accounts with 20 messages each, a round trip of 50 ms",
		accounts: 50, messages: 20, size: lognormal, rtt: longRTT,
		contenders: []contender{drainWith(drain32, 32), mailhaulWith(mailhaulName, 32), fetchmail, mpop, mpopEach, getmail, getmailEach, fdmConcurrent()},
		targets:    []target{{mailhaulName, drain32, 1.6}, {mailhaulName, fastestSingle, 0.2}, {mailhaulName, fastestConcurrent, noBound}, {mailhaulName, peakMemory, maxMemory}},
	},
	{
		name: "e", title: "nothing new among 20,000 messages",
		accounts: 1, messages: 20_000, size: fixedSize(smallMail), keep: true,
		contenders: singleAccount, targets: usualTargets(1.6, 1.2),
	},
	{
		name: "e200", title: "nothing new among 200,000 messages",
		accounts: 1, messages: 200_000, size: fixedSize(smallMail), keep: true,
		contenders: singleAccount[:2], targets: []target{{mailhaulName, sameInScenarioE, 12}},
	},
	{
		name: "f", title: "one message of 100 MB",
		accounts: 1, messages: 1, size: fixedSize(largeMail),
		contenders: singleAccount, targets: usualTargets(1.3, 1.0),
	},
	{
		name: "g", title: "200 accounts with nothing new, a round trip of 50 ms",
		accounts: 200, messages: 5, size: fixedSize(smallMail), rtt: longRTT, keep: true,
		contenders: []contender{
			drainWith(drain32, 32), drainWith(drain200, 200), mailhaulWith(mailhaulName, 32), mailhaulWith(mailhaul200Name, 200),
			fetchmail, mpop, mpopEach, getmail, getmailEach, fdmConcurrent(),
		},
		targets: []target{
			{mailhaulName, drain32, 1.3}, {mailhaul200Name, fastestConcurrent, 1.0}, {mailhaulName, peakMemory, maxMemoryManyAccounts}, {mailhaul200Name, peakMemory, maxMemoryManyAccounts},
		},
	},
}
