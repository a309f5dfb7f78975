package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is one process to be measured.
type command struct {
	Argv []string
	// Fine are the exit codes besides 0 that are no failure.
	SuccessCodes []int `json:",omitempty"`
}

// order is what the launcher is asked to do: run all commands at once.
type launchRequest struct {
	Dir      string
	Env      []string
	Commands []command
}

// usage is what a run has cost.
type usage struct {
	Wall    float64 `json:"wall"`    // seconds, from the first start to the last end
	CPU     float64 `json:"cpu"`     // seconds, user and system, of all processes
	RSS     int64   `json:"rss"`     // the peak of the largest process, in KiB
	Failure string  `json:"failure"` // of the first process that failed
}

// launch runs an order and waits for its end, as the user who owns the files.
//
// It does so in a process of its own, a fresh one each time: Linux counts
// what a process was before it became another program into that program's
// peak of memory, and this program, once it has verified much mail, is large.
func (b *bench) launch(ctx context.Context, o launchRequest) (usage, error) {
	request, err := json.Marshal(o)
	if err != nil {
		return usage{}, err
	}
	cmd := exec.CommandContext(ctx, b.selfPath)
	cmd.Env = append(os.Environ(), roleVariable+"=launch")
	cmd.Dir = o.Dir
	cmd.Stdin = bytes.NewReader(request)
	cmd.Stderr = os.Stderr
	// With everything it has started, if it must be stopped.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(b.runUID), Gid: uint32(b.runUID)}
	}
	out, err := cmd.Output()
	if err != nil {
		return usage{}, fmt.Errorf("the launcher: %w", err)
	}
	var u usage
	return u, json.Unmarshal(out, &u)
}

// roleVariable tells a copy of this program what it is to be.
const roleVariable = "MAILHAUL_BENCH_ROLE"

// launcher is the other side of launch.
func serveLaunch(in io.Reader, out io.Writer) error {
	var o launchRequest
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return err
	}
	var u usage
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for i, c := range o.Commands {
		all.Go(func() {
			state, err := runCommand(o, c, filepath.Join(o.Dir, fmt.Sprintf("log-%d", i)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil && u.Failure == "" {
				u.Failure = err.Error()
			}
			if state == nil {
				return
			}
			u.CPU += (state.UserTime() + state.SystemTime()).Seconds()
			if r, ok := state.SysUsage().(*syscall.Rusage); ok {
				u.RSS = max(u.RSS, int64(r.Maxrss))
			}
		})
	}
	all.Wait()
	u.Wall = time.Since(began).Seconds()
	return json.NewEncoder(out).Encode(u)
}

func runCommand(o launchRequest, c command, logPath string) (*os.ProcessState, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.Dir, o.Env, log, log
	err = cmd.Run()
	if cmd.ProcessState != nil {
		for _, code := range c.SuccessCodes {
			if cmd.ProcessState.ExitCode() == code {
				err = nil
			}
		}
	}
	if err != nil {
		said, _ := os.ReadFile(logPath) // the failure is told without it, too
		err = fmt.Errorf("%s: %w: %s", filepath.Base(c.Argv[0]), err, lastChars(string(said), 300))
	}
	return cmd.ProcessState, err
}

// tail returns the end of a text on one line.
func lastChars(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[max(0, len(text)-n):]
}
