package main

import (
	"context"
	"fmt"
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

// endSignals receives those that are to end a run.
func endSignals() chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals
}

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP cancels, as
// stop does. The next one kills, since what is being said may wait for somebody who
// does not read, but not while a new token is on its way to w, which may be nil.
func interruptible(ctx context.Context, std stdio, w *wiring) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := endSignals()
	go func() {
		select {
		case <-signals:
			cancel() // from here on, no other is asked for
		case <-ctx.Done():
		}
		var next os.Signal
		if w.renewing() {
			next = <-signals
		} else {
			signal.Stop(signals)
			select {
			case next = <-signals: // which came before that
			default:
				return
			}
		}
		if w.renewing() {
			go fmt.Fprintln(std.err, "mailhaul: "+waitsForToken)
			w.awaitTokens()
		}
		signal.Reset(next)
		syscall.Kill(os.Getpid(), next.(syscall.Signal))
	}()
	return ctx, cancel
}

// drainOnSignal returns a channel that the first SIGINT, SIGTERM or SIGHUP closes, and
// a context that the second one cancels, as stop does. say is called at the first, and
// hungUp at the second, or at one that comes after stop; both may be long in returning.
// The signals stay noted for the rest of the process: the second may come when all but
// a new token is closed, and must not kill who waits for that.
func drainOnSignal(ctx context.Context, say, hungUp func()) (_ context.Context, _ <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	drain := make(chan struct{})
	signals := endSignals()
	go func() {
		select {
		case <-signals:
			close(drain)
			go say()
		case <-ctx.Done():
		}
		<-signals
		cancel()
		hungUp()
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
