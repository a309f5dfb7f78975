package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bench holds what all scenarios use: the server, the folders and the programs.
type bench struct {
	log       io.Writer     // gets a line for each run
	runs      int           // of each contender in each scenario
	slowRun   time.Duration // a contender that takes longer is not run again
	runLimit  time.Duration // a run that takes longer has failed
	syncDisks func()        // waits until everything that was written is on the disk
	tools     []string      // the programs or contenders to run; nil means all that are installed

	selfPath     string // a copy of this program that runUID may execute
	mailhaulPath string
	runUID       int    // the user who runs the fetchers, and owns the mail
	diskDir      string // holds the folders of the jobs
	memoryDir    string // the same in a file system in memory; "" if there is none
	caFile       string // the server's certificate authority, readable by runUID
	poolDir      string // holds the messages that fill the maildrops
	server       *server
	plainRelay   *latencyRelay // in front of the server's port without TLS
	tlsRelay     *latencyRelay // in front of its port with TLS

	discardedJobs int // see scenarioRun.discard
}

// nobody is the user that runs the fetchers if this program runs as root: some fetchers
// refuse to run as root, and others change the user before they deliver.
const nobody = 65534

// sharedMemory is where Linux has a file system in memory. It is used if it has
// minMemorySpace bytes; in a container it may have less.
const (
	sharedMemory   = "/dev/shm"
	minMemorySpace = 1 << 30
)

// setUp makes the folders, in dir, and starts the server and the relays, which stop when
// ctx is done. The caller calls tearDown even if setUp fails.
func (b *bench) setUp(ctx context.Context, dir string) error {
	b.runUID = os.Getuid()
	if b.runUID == 0 {
		b.runUID = nobody
	}
	var err error
	if b.diskDir, err = makeWorkDir(dir); err != nil {
		return err
	}
	parent := b.diskDir
	if freeSpace(sharedMemory) >= minMemorySpace {
		if b.memoryDir, err = makeWorkDir(sharedMemory); err != nil {
			return err
		}
		parent = b.memoryDir
	}
	b.poolDir = filepath.Join(parent, "pool")
	if b.server, err = startServer(parent, b.runUID); err != nil {
		return err
	}
	if b.plainRelay, err = startRelay(ctx, b.server.Addr); err != nil {
		return err
	}
	if b.tlsRelay, err = startRelay(ctx, b.server.TLSAddr); err != nil {
		return err
	}
	// runUID may not be able to enter the server's folder or that of this program.
	b.caFile = filepath.Join(b.diskDir, "ca.pem")
	if err := copyFile(b.caFile, b.server.CAFile, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.selfPath = filepath.Join(b.diskDir, "bench")
	return copyFile(b.selfPath, self, 0o755)
}

// installMailhaul copies the given mailhaul to where runUID may execute it. If none is
// given, it builds one.
func (b *bench) installMailhaul(ctx context.Context, program string) error {
	b.mailhaulPath = filepath.Join(b.diskDir, "mailhaul")
	if program != "" {
		return copyFile(b.mailhaulPath, program, 0o755)
	}
	return b.buildMailhaul(ctx)
}

// buildMailhaul compiles mailhaul as `make build` does.
func (b *bench) buildMailhaul(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	root := strings.TrimSpace(string(out))
	if err == nil && root == "" {
		err = errors.New("there is no module")
	}
	if err != nil {
		return fmt.Errorf("go list: %w: run it inside the sources", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", b.mailhaulPath, "./cmd/mailhaul")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = b.log
	return cmd.Run()
}

// tearDown stops the server and removes the folders.
func (b *bench) tearDown() {
	if b.server != nil {
		b.server.t.runCleanups()
	}
	for _, dir := range []string{b.diskDir, b.memoryDir} {
		if dir == "" {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(b.log, "bench:", err)
		}
	}
}
