package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// streams is how many polls one processor serves with ease: it takes in more than
// a line of 1 Gbit/s brings, TLS and all.
const streams = 8

// available is how many processors there are for us.
var available = runtime.GOMAXPROCS(0)

// processors returns how many processors are to be used for so many polls at once.
// What goes on beside a poll's one stream of messages is little: on a processor of
// its own it takes more time than it saves, most of all to be woken, and it is in
// the way of the programs that the mail comes from or goes to.
func processors(polls int) int { return min(1+polls/streams, available) }

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
// does not.
func tune(polls int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors(polls))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage(polls))
	}
}
