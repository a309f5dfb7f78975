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

// point is a moment in the life of a process: its n-th call among calls, from 1, counted
// over all threads.
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

// noPoint and unwatched are no points. With unwatched, calls are not even seen, and the
// process runs at full speed.
var noPoint, unwatched = point{}, point{call: -1}

// trace is what was seen of a traced process.
type trace struct {
	ending
	seen []call // in the order in which they began
	peak int64  // the most memory that it had, in bytes, if it ended by itself
}

// runTraced runs a program as run does, and kills it at p. The program's other threads go
// on until the kernel has stopped them, as after any kill. ptrace is used and not the
// fault injection of strace, which counts the calls of each thread apart: a Go program
// moves between threads, so that its n-th call would be another one in each run.
func runTraced(p program, at point) (trace, error) { return runWith(p, tracer{at: at}) }

// runWith runs a program with the tracer t.
func runWith(p program, t tracer) (trace, error) {
	type answer struct {
		trace
		err error
	}
	done := make(chan answer)
	go func() {
		// ptrace belongs to a thread. This one stays locked, so that it ends with the
		// goroutine.
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
	t.output, err = os.ReadFile(out.Name())
	return err
}

// tracer traces one process.
type tracer struct {
	trace
	at point
	// within is the thread whose return from a call is the moment of the kill.
	within int
	// writes, unless nil, is told of calls; inside has the calls that have not
	// returned, by thread.
	writes *unsyncedWrites
	inside map[int]call
	// fails, unless nil, says which calls fail with EIO; failing has the threads
	// in such a call.
	fails   func(pid int, c call) bool
	failing map[int]bool
}

// follow lets a process, which stopped when it was executed, run to its end.
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
			// It was executed, has made a thread, or is a new thread.
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

// peak returns the most memory that a process has had. The value of wait4 is of no use:
// there a process inherits its parent's.
func peak(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, text, _ = bytes.Cut(text, []byte("\nVmHWM:"))
	var kib int64
	fmt.Sscan(string(text), &kib)
	return kib << 10
}

// wait is wait4. Other tests have children of the same threads: it must not wait for just
// any child, so that each traced process is a group of its own.
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
		return setRegisters(tid, func(regs *unix.PtraceRegs) { regs.Rax = ^uint64(unix.EIO) + 1 })
	}
	if begun, ok := t.inside[tid]; ok && info.op == unix.PTRACE_SYSCALL_INFO_EXIT {
		delete(t.inside, tid)
		if result := int64(info.number); result >= 0 {
			t.writes.ended(tid, begun)
		}
	}
	if info.op != unix.PTRACE_SYSCALL_INFO_ENTRY || !info.isKillPoint() {
		return nil
	}
	if t.writes != nil {
		t.inside[tid] = info.call
		t.writes.begun(tid, info.call)
	}
	if t.fails != nil && t.fails(proc.Pid, info.call) {
		t.failing[tid] = true
		return setRegisters(tid, func(regs *unix.PtraceRegs) { regs.Orig_rax = math.MaxUint64 }) // no call is made
	}
	t.seen = append(t.seen, info.call)
	if len(t.seen) != t.at.call {
		return nil
	}
	if t.at.when == before {
		return proc.Kill() // the kernel does not make the call
	}
	t.within = tid
	if size := info.size(); t.at.when == halfway && size > 1 {
		return setRegisters(tid, func(regs *unix.PtraceRegs) { regs.Rdx = 1 + rand.Uint64N(size-1) })
	}
	return nil
}

// setRegisters changes the registers of a thread.
func setRegisters(tid int, how func(*unix.PtraceRegs)) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	how(&regs)
	return unix.PtraceSetRegs(tid, &regs)
}
