package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// notePipes has a write to a closed pipe fail instead of killing the program.
// Unlike an ignored signal, a noted one is not passed on to password commands.
func notePipes() (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}

// interruptible returns a context that SIGINT or SIGTERM cancels. A second one kills:
// what is being said may wait for somebody who does not read.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// drainOnSignal returns a channel that the first SIGINT, SIGTERM or SIGHUP
// closes, and a context that the second one cancels, as stop does. say is called at
// the first, and may be long in returning. The signals stay noted for the rest of the
// process: the second may come when all but a new token is closed, and must not kill
// who waits for that.
func drainOnSignal(ctx context.Context, say func()) (_ context.Context, _ <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	drain := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		for _, act := range []func(){func() { close(drain); go say() }, cancel} {
			select {
			case <-signals:
				act()
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, drain, cancel
}

// closed reports whether a channel is.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// daemonSignals are the signals that a daemon obeys.
type daemonSignals struct{ end, reload, now chan os.Signal }

// newDaemonSignals has those received that must not kill a daemon which is
// about to begin. They are obeyed once it polls.
func newDaemonSignals() daemonSignals {
	s := daemonSignals{make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.now, syscall.SIGUSR1)
	return s
}

// noteEnd has those received that end a daemon, for the rest of the process: the
// second may come when all is closed already, and must not kill it. Before, they
// do: a start that hangs can be ended.
func (s daemonSignals) noteEnd() { signal.Notify(s.end, os.Interrupt, syscall.SIGTERM) }
