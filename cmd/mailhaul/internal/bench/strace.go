package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// syncCalls are the system calls that wait until data is on the disk.
const syncCalls = "fsync,fdatasync,sync,syncfs,msync,sync_file_range"

// straceCommand returns a command to run another one with, so that syncCalls are traced
// to files in dir. It returns nil if strace is not installed.
func straceCommand(dir string) []string {
	if _, err := exec.LookPath("strace"); err != nil {
		return nil
	}
	return []string{"strace", "-ff", "--seccomp-bpf", "-qq", "-e", "trace=" + syncCalls, "-e", "signal=none", "-o", filepath.Join(dir, "t")}
}

// countSyncs returns the number of calls traced to dir, -1 if strace is not installed.
func countSyncs(dir string) (int, error) {
	if straceCommand(dir) == nil {
		return -1, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "t.*"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			name, args, ok := strings.Cut(lines.Text(), "(")
			// If another thread interrupts a call, it has a second line, such as
			// "<... fsync resumed>". A call with this flag alone starts no write: it
			// asks whether earlier ones have failed.
			if ok && !strings.Contains(name, " ") && !strings.Contains(args, ", SYNC_FILE_RANGE_WAIT_BEFORE)") {
				n++
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
