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
	"syscall"
	"time"
)

// bench is the bench that everybody is measured on.
type bench struct {
	log       io.Writer // what is being done
	runs      int
	slowRun   time.Duration // who takes longer once is not run again
	runLimit  time.Duration // of one run
	syncDisks func()        // waits until all that was written is on the disk
	tools     []string      // programs to run; none: all that there are

	selfPath      string // this program, where every user may run it
	mailhaulPath  string // mailhaul
	runUID        int    // who runs the fetchers, and owns the mail
	diskDir       string // folders for jobs
	memoryDir     string // the same in memory; "" if there is none
	caFile        string
	poolDir       string
	server        *server
	plainRelay    *latencyRelay
	tlsRelay      *latencyRelay
	discardedJobs int // jobs
}

// nobody runs the fetchers if root runs the program: some refuse root, and
// others drop what root may do first.
const nobody = 65534

// shm is where systems have a file system in memory. In a container it may be
// too small.
const (
	shm         = "/dev/shm"
	minShmSpace = 1 << 30
)

// setUp starts the server. The folders are made in dir. tearDown may be called
// even if it fails.
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
	if freeSpace(shm) >= minShmSpace {
		if b.memoryDir, err = makeWorkDir(shm); err != nil {
			return err
		}
		parent = b.memoryDir
	}
	b.poolDir = filepath.Join(parent, "pool")
	if b.server, err = startServer(parent, b.runUID); err != nil {
		return err
	}
	if b.plainRelay, err = newRelay(ctx, b.server.Addr); err != nil {
		return err
	}
	if b.tlsRelay, err = newRelay(ctx, b.server.TLSAddr); err != nil {
		return err
	}
	// The fetchers may be another user, whom the folder of the server keeps out.
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

// build compiles mailhaul as `make build` does.
func (b *bench) build(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	root := strings.TrimSpace(string(out))
	if err == nil && root == "" {
		err = errors.New("there is no module")
	}
	if err != nil {
		return fmt.Errorf("go list: %w: run it inside the sources", err)
	}
	b.mailhaulPath = filepath.Join(b.diskDir, "mailhaul")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", b.mailhaulPath, "./cmd/mailhaul")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = b.log
	return cmd.Run()
}

func (b *bench) tearDown() {
	if b.server != nil {
		b.server.host.runCleanups()
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

// free returns how many octets a file system has left for everybody.
func freeSpace(dir string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0 // it is not there
	}
	return int64(fs.Bavail) * int64(fs.Bsize)
}

func makeWorkDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func copyFile(to, from string, mode os.FileMode) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, mode)
}
