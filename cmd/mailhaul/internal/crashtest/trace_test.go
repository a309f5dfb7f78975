//go:build linux && amd64

package crashtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// point is a moment in the life of a process: its call-th system call of
// calls, from 1, counted over all threads.
type point struct {
	call int
	when moment
}

type moment int

const (
	before  moment = iota
	halfway        // when some of the bytes are written
	after
)

func (p point) String() string {
	return fmt.Sprintf("%s call %d", [...]string{"before", "halfway through", "after"}[p.when], p.call)
}

// unharmed and unwatched are no points. With the second, calls are not seen
// either, and the process runs at full speed.
var unharmed, unwatched = point{}, point{call: -1}

// trace is what was seen of a traced process.
type trace struct {
	ending
	seen []call // in the order in which they began
	peak int64  // the most memory it had, in bytes, if it ended by itself
}

// runTraced runs a program as run does, and kills it at p. The program's own
// threads go on until the kernel has stopped them, as after any kill.
//
// It is done by ptrace and not by strace's injection, which counts the calls
// of each thread for itself: a Go program moves between threads as it likes,
// so that its n-th call would be another one in each run, or none.
func runTraced(p program, at point) (trace, error) { return watched(p, tracer{at: at}) }

// watched runs a program as t says.
func watched(p program, t tracer) (trace, error) {
	type answer struct {
		trace
		err error
	}
	done := make(chan answer)
	go func() {
		// ptrace knows threads. This one is never unlocked, so that it ends
		// with the goroutine.
		runtime.LockOSThread()
		err := p.traced(&t)
		done <- answer{t.trace, err}
	}()
	a := <-done
	return a.trace, a.err
}

func (p program) traced(t *tracer) error {
	out, err := p.output()
	if err != nil {
		return err
	}
	defer out.Close()
	proc, err := p.start(out, true)
	if err != nil {
		return err
	}
	defer proc.Release()
	limit := time.AfterFunc(deadline, func() { proc.Kill() })
	defer limit.Stop()
	if err := t.follow(proc); err != nil {
		proc.Kill()
		return err
	}
	t.said, err = os.ReadFile(out.Name())
	return err
}

type tracer struct {
	trace
	at point
	// within is the thread that is to be killed when its call returns.
	within int
	// ledger, if there is one, is told of calls, and inside has those that
	// have not returned, by thread.
	ledger *ledger
	inside map[int]call
	// fails, if there is one, says which calls fail with EIO, and failing has
	// the threads that are about to hear of it.
	fails   func(pid int, c call) bool
	failing map[int]bool
}

// follow lets a process run that stopped when it was executed, to its end.
func (t *tracer) follow(proc *os.Process) error {
	var status unix.WaitStatus
	if _, err := wait(proc.Pid, &status); err != nil {
		return err
	}
	const options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXIT
	if err := unix.PtraceSetOptions(proc.Pid, options); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	resume := unix.PtraceSyscall
	if t.at == unwatched {
		resume = unix.PtraceCont
	}
	known := map[int]bool{}
	for tid := proc.Pid; ; {
		signal := 0
		switch sig := status.StopSignal(); {
		case status.Exited() || status.Signaled():
			if tid == proc.Pid {
				t.killed, t.code = status.Signaled(), status.ExitStatus()
				return nil
			}
		case sig == unix.SIGTRAP|0x80: // PTRACE_O_TRACESYSGOOD
			if err := t.call(proc, tid); err != nil {
				return err
			}
		case sig == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_EXIT:
			t.peak = max(t.peak, peak(proc.Pid))
		case sig == unix.SIGTRAP, sig == unix.SIGSTOP && !known[tid]:
			// It was executed, made a thread, or is a new one.
		default:
			signal = int(sig)
		}
		known[tid] = true
		if status.Stopped() {
			// ESRCH: another thread has ended the process meanwhile.
			if err := resume(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("ptrace: %w", err)
			}
		}
		var err error
		if tid, err = wait(-proc.Pid, &status); err != nil {
			return err
		}
	}
}

// peak reads the high-water mark of a process's memory. What wait4 tells of
// it is of no use: there a process inherits its parent's.
func peak(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, text, _ = bytes.Cut(text, []byte("\nVmHWM:"))
	var kib int64
	fmt.Sscan(string(text), &kib)
	return kib << 10
}

// wait is wait4. Other tests have children of the same threads, so that one
// must not wait for just any: each traced process is a group of its own.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		tid, err := unix.Wait4(pid, status, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return tid, err
		}
	}
}

// call looks at a thread that is about to enter a system call or to leave it.
func (t *tracer) call(proc *os.Process, tid int) error {
	var info struct { // ptrace_syscall_info of linux/ptrace.h
		op     uint8
		_      [3]uint8
		arch   uint32
		ip, sp uint64
		call
		_ uint64
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	switch {
	case errno == unix.ESRCH:
		return nil
	case errno != 0:
		return fmt.Errorf("ptrace: %w", errno)
	}
	if info.op == unix.PTRACE_SYSCALL_INFO_EXIT && t.within == tid {
		return proc.Kill()
	}
	if info.op == unix.PTRACE_SYSCALL_INFO_EXIT && t.failing[tid] {
		delete(t.failing, tid)
		return change(tid, func(regs *unix.PtraceRegs) { regs.Rax = ^uint64(unix.EIO) + 1 })
	}
	if begun, ok := t.inside[tid]; ok && info.op == unix.PTRACE_SYSCALL_INFO_EXIT {
		delete(t.inside, tid)
		if result := int64(info.number); result >= 0 {
			t.ledger.ended(tid, begun)
		}
	}
	if info.op != unix.PTRACE_SYSCALL_INFO_ENTRY || !info.counts() {
		return nil
	}
	if t.ledger != nil {
		t.inside[tid] = info.call
		t.ledger.begun(tid, info.call)
	}
	if t.fails != nil && t.fails(proc.Pid, info.call) {
		t.failing[tid] = true
		return change(tid, func(regs *unix.PtraceRegs) { regs.Orig_rax = math.MaxUint64 }) // no call at all
	}
	t.seen = append(t.seen, info.call)
	if len(t.seen) != t.at.call {
		return nil
	}
	if t.at.when == before {
		return proc.Kill() // the call is not made: the kernel looks first
	}
	t.within = tid
	if size := info.size(); t.at.when == halfway && size > 1 {
		return change(tid, func(regs *unix.PtraceRegs) { regs.Rdx = 1 + rand.Uint64N(size-1) })
	}
	return nil
}

// change changes the registers of a thread.
func change(tid int, how func(*unix.PtraceRegs)) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	how(&regs)
	return unix.PtraceSetRegs(tid, &regs)
}
