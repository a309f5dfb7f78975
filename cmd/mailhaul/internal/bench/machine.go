package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Machine is where something was measured, and with what.
type Machine struct {
	CPU    string   `json:"cpu"`
	Cores  int      `json:"cores"`
	Memory string   `json:"memory"`
	Kernel string   `json:"kernel"`
	Disk   string   `json:"disk"` // the kind of the file system that fetchers write to
	Sync   float64  `json:"sync"` // milliseconds that a new file of 8 KiB takes to be on it
	Tools  []string `json:"tools"`
}

// Name tells machines apart.
func (m Machine) ID() string { return fmt.Sprint(m.CPU, m.Cores, m.Kernel, m.Disk) }

// gigabytes rounds what the kernel says in kB.
func gigabytes(s string) string {
	var kB float64
	if n, _ := fmt.Sscanf(s, "%f kB", &kB); n == 0 {
		return s
	}
	return fmt.Sprintf("%.0f GB", kB/(1<<20))
}

func (b *bench) describeMachine(ctx context.Context) (Machine, error) {
	say := func(argv ...string) string {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	m := Machine{
		CPU: findInFile("/proc/cpuinfo", `model name\s*:\s*(.+)`), Cores: runtime.NumCPU(),
		Memory: gigabytes(findInFile("/proc/meminfo", `MemTotal:\s*(.+)`)),
		Kernel: say("uname", "-sr"), Disk: strings.TrimSpace(strings.TrimPrefix(say("df", "--output=fstype", b.diskDir), "Type")),
	}
	m.Tools = append(m.Tools, "mailhaul "+say("git", "describe", "--always"))
	for _, pkg := range []string{"fetchmail", "mpop", "getmail6", "fdm", "dovecot-core"} {
		if v := say("dpkg-query", "-W", "-f", "${Version}", pkg); v != "unknown" && v != "" {
			m.Tools = append(m.Tools, strings.TrimSuffix(pkg, "-core")+" "+v)
		}
	}
	var err error
	m.Sync, err = measureSync(b.diskDir)
	return m, err
}

// find returns what a pattern captures in a file of the system.
func findInFile(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	if match := regexp.MustCompile(pattern).FindSubmatch(text); match != nil {
		return string(match[1])
	}
	return "unknown"
}

// timeSync returns the median of how long a new file takes to be on the disk.
func measureSync(dir string) (milliseconds float64, err error) {
	var times []float64
	for i := range 100 {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("sync-%d", i)))
		if err != nil {
			return 0, err
		}
		began := time.Now()
		_, err = f.Write(make([]byte, 8<<10))
		if err == nil {
			err = f.Sync()
		}
		times = append(times, float64(time.Since(began).Microseconds())/1000)
		f.Close()
		if err != nil {
			return 0, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
