package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// pollsPerProcessor is how many concurrent polls one processor serves with ease: with
// AES instructions it receives 200 MB/s over TLS.
const pollsPerProcessor = 8

// maxProcessors is the number of processors that the program may use.
var maxProcessors = runtime.GOMAXPROCS(0)

// processorsFor returns how many processors to use for a number of concurrent polls. A
// poll is one stream of messages and little work beside. Waking a second processor for
// that work costs more time than it saves, and takes the processor from programs on this
// machine that send or receive the mail. With disk set, that work waits for a disk: the
// Go scheduler notices late that the processor is idle, so the stream needs a second one.
func processorsFor(polls int, disk bool) int {
	n := 1 + polls/pollsPerProcessor
	if disk {
		n = max(n, 2)
	}
	return min(n, maxProcessors)
}

// gcPercent returns the GOGC for a number of concurrent polls. Many polls hold many
// buffers; collecting twice as often saves memory on a small machine.
func gcPercent(polls int) int {
	if polls < pollsPerProcessor {
		return 100
	}
	return 50
}

// tuneRuntime sets GOMAXPROCS and GOGC for a number of concurrent polls, unless the
// environment sets them. The runtime then no longer follows a change of a container's
// CPU limit.
func tuneRuntime(polls int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processorsFor(polls, false))
		durable.OnDisk(func() { runtime.GOMAXPROCS(processorsFor(polls, true)) })
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent(polls))
	}
}
