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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// command is one process to run and measure.
type command struct {
	Argv []string
	// SuccessCodes are the exit codes besides 0 that are not a failure.
	SuccessCodes []int `json:",omitempty"`
}

// launchRequest tells the launcher to run commands, all at once.
type launchRequest struct {
	Dir      string
	Env      []string
	Commands []command
}

// usage is the resources that a run has used.
type usage struct {
	Wall    float64 `json:"wall"`    // seconds, from the first start to the last end
	CPU     float64 `json:"cpu"`     // seconds, user and system, of all processes
	RSS     int64   `json:"rss"`     // KiB, the highest peak of one process
	Failure string  `json:"failure"` // of the first process that failed, or of the delivery
}

// launch runs the commands as runUID, and waits until all have ended.
//
// A new process, the launcher, starts them. In Linux, the peak memory of a program
// includes that of the process that executed it, and this process is large after it has
// verified much mail.
func (b *bench) launch(ctx context.Context, req launchRequest) (usage, error) {
	request, err := json.Marshal(req)
	if err != nil {
		return usage{}, err
	}
	cmd := exec.CommandContext(ctx, b.selfPath)
	cmd.Env = append(os.Environ(), roleVariable+"=launch")
	cmd.Dir = req.Dir
	cmd.Stdin = bytes.NewReader(request)
	cmd.Stderr = os.Stderr
	// If ctx ends, the launcher is killed with everything that it has started.
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

// roleVariable is set to launch in the environment of the launcher.
const roleVariable = "MAILHAUL_BENCH_ROLE"

// runLauncher is the launcher: it reads a launchRequest and writes the usage, as JSON.
func runLauncher(in io.Reader, out io.Writer) error {
	var req launchRequest
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return err
	}
	var u usage
	var mu sync.Mutex
	var processes sync.WaitGroup
	began := time.Now()
	for i, c := range req.Commands {
		processes.Go(func() {
			state, err := runCommand(req, c, filepath.Join(req.Dir, fmt.Sprintf("log-%d", i)))
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
	processes.Wait()
	u.Wall = time.Since(began).Seconds()
	return json.NewEncoder(out).Encode(u)
}

// runCommand runs one command, with its output in a file. The state is nil if it could
// not be started.
func runCommand(req launchRequest, c command, logPath string) (*os.ProcessState, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = req.Dir, req.Env, log, log
	err = cmd.Run()
	if cmd.ProcessState != nil && slices.Contains(c.SuccessCodes, cmd.ProcessState.ExitCode()) {
		err = nil
	}
	if err != nil {
		output, _ := os.ReadFile(logPath) // without it, the error is still worth reporting
		err = fmt.Errorf("%s: %w: %s", filepath.Base(c.Argv[0]), err, lastBytes(string(output), 300))
	}
	return cmd.ProcessState, err
}

// lastBytes returns the last n bytes of a text, on one line.
func lastBytes(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	return text[max(0, len(text)-n):]
}
