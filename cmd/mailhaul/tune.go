package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// streams is how many polls one processor serves with ease: with instructions for
// AES it takes in 200 MB/s over TLS.
const streams = 8

// available is how many processors there are for us.
var available = runtime.GOMAXPROCS(0)

// processors returns how many processors to use for so many polls at once. A poll is one
// stream of messages and little else. To run the rest on a second processor takes more
// time than it saves, most of all to wake it, and is in the way of the programs that the
// mail comes from or goes to. But the rest may wait for a disk, and Go does not see at
// once that its processor is idle then: so that the stream goes on, it needs another.
func processors(polls int, disk bool) int {
	n := 1 + polls/streams
	if disk {
		n = max(n, 2)
	}
	return min(n, available)
}

// garbage returns how much there may be, in percent of what is in use, before it
// is collected. Many polls hold many buffers, and little else: to collect twice as
// often keeps a small machine's memory free.
func garbage(polls int) int {
	if polls < streams {
		return 100
	}
	return 50
}

// tune fits the Go runtime to so many polls at once, as far as the environment
// does not. From then on the runtime does not follow changes of how many processors
// a container may use.
func tune(polls int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors(polls, false))
		durable.OnDisk(func() { runtime.GOMAXPROCS(processors(polls, true)) })
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage(polls))
	}
}
