package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// catchSIGPIPE makes a write to a closed pipe fail instead of killing the program. The
// signal is caught and not ignored, because child processes inherit ignored signals.
func catchSIGPIPE() (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}

// notifyTermination returns a channel that receives the signals that end a run.
func notifyTermination() chan os.Signal {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	return signals
}

// cancelOnSignal returns a context that the first SIGINT, SIGTERM or SIGHUP cancels, as
// stop does. The next signal kills the program, which may hang in a write that nobody
// reads; but if w, which may be nil, is renewing a token, only once it has that.
func cancelOnSignal(ctx context.Context, std stdio, w *wiring) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := notifyTermination()
	go func() {
		select {
		case <-signals:
			cancel() // no token is requested after this
		case <-ctx.Done():
		}
		killBySecondSignal(signals, std, w)
	}()
	return ctx, cancel
}

// killBySecondSignal restores the default action of signals, which is to kill the
// program. While w is renewing a token, it waits for a signal and for the token first.
func killBySecondSignal(signals chan os.Signal, std stdio, w *wiring) {
	var second os.Signal
	if w.isRenewingToken() {
		second = <-signals
	} else {
		signal.Stop(signals)
		select {
		case second = <-signals: // arrived before Stop
		default:
			return
		}
	}
	if w.isRenewingToken() {
		go fmt.Fprintln(std.err, "mailhaul: "+tokenWaitText)
		w.awaitTokenRenewals()
	}
	signal.Reset(second)
	syscall.Kill(os.Getpid(), second.(syscall.Signal))
}

// drainOnSignal returns a channel that the first SIGINT, SIGTERM or SIGHUP closes, and a
// context that the second one cancels, as stop does. It calls onFirst at the first, and
// onSecond at the second or at one after stop. Both may block. The signals stay caught
// for the rest of the process: the second may arrive when the program only waits for a
// new token, and must not kill it then.
func drainOnSignal(ctx context.Context, onFirst, onSecond func()) (_ context.Context, _ <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	drain := make(chan struct{})
	signals := notifyTermination()
	go func() {
		select {
		case <-signals:
			close(drain)
			go onFirst()
		case <-ctx.Done():
		}
		<-signals
		cancel()
		onSecond()
	}()
	return ctx, drain, cancel
}

// isClosed reports whether a channel is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// daemonSignals are the signals that a daemon obeys.
type daemonSignals struct{ terminate, reload, pollNow chan os.Signal }

// newDaemonSignals catches SIGHUP and SIGUSR1 from the start of a daemon, which they
// must not kill. It obeys them once it polls.
func newDaemonSignals() daemonSignals {
	s := daemonSignals{make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.pollNow, syscall.SIGUSR1)
	return s
}

// catchTermination catches the signals that end a daemon, for the rest of the process:
// the second may arrive when everything is closed already, and must not kill it. Until
// the call they do kill it, so that a start that hangs can be ended.
func (s daemonSignals) catchTermination() { signal.Notify(s.terminate, os.Interrupt, syscall.SIGTERM) }
