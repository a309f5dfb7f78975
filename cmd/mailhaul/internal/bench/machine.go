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

// Machine describes the machine and the programs of a measurement.
type Machine struct {
	CPU    string   `json:"cpu"`
	Cores  int      `json:"cores"`
	Memory string   `json:"memory"`
	Kernel string   `json:"kernel"`
	Disk   string   `json:"disk"`  // type of the file system that the fetchers write to
	Sync   float64  `json:"sync"`  // milliseconds to write and sync a new file of 8 KiB
	Tools  []string `json:"tools"` // each with its version
}

// ID identifies a machine.
func (m Machine) ID() string { return fmt.Sprint(m.CPU, m.Cores, m.Kernel, m.Disk) }

// gigabytes converts a number such as "16384256 kB". It returns other text as it is.
func gigabytes(s string) string {
	var kB float64
	if n, _ := fmt.Sscanf(s, "%f kB", &kB); n == 0 {
		return s
	}
	return fmt.Sprintf("%.0f GB", kB/(1<<20))
}

// describeMachine finds out about this machine. What it cannot find out is "unknown".
func (b *bench) describeMachine(ctx context.Context) (Machine, error) {
	output := func(argv ...string) string {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	m := Machine{
		CPU: findInFile("/proc/cpuinfo", `model name\s*:\s*(.+)`), Cores: runtime.NumCPU(),
		Memory: gigabytes(findInFile("/proc/meminfo", `MemTotal:\s*(.+)`)),
		Kernel: output("uname", "-sr"), Disk: strings.TrimSpace(strings.TrimPrefix(output("df", "--output=fstype", b.diskDir), "Type")),
	}
	m.Tools = append(m.Tools, "mailhaul "+output("git", "describe", "--always"))
	for _, pkg := range []string{"fetchmail", "mpop", "getmail6", "fdm", "dovecot-core"} {
		if v := output("dpkg-query", "-W", "-f", "${Version}", pkg); v != "unknown" && v != "" {
			m.Tools = append(m.Tools, strings.TrimSuffix(pkg, "-core")+" "+v)
		}
	}
	var err error
	m.Sync, err = measureSync(b.diskDir)
	return m, err
}

// findInFile returns what the first group of a pattern matches in a file.
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

// measureSync returns the median time to write and sync a new file of 8 KiB.
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
