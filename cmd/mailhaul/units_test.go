package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// installed is the path of mailhaul in the units.
const installed = "/usr/local/bin/mailhaul"

// systemd accepts the units, and rates what an attacker could do from inside them as
// little.
func TestUnits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: systemd is for Linux")
	}
	analyze := servertest.Program(t, "systemd-analyze")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../docs/systemd/mailhaul*")
	if err != nil || len(files) != 4 {
		t.Fatalf("units %q, error %v", files, err)
	}
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(installed), []byte(strconv.Quote(self)))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for unit, most := range map[string]string{
		"mailhaul.service": "15", "mailhaul@ada.service": "30", "mailhaul-fetch.timer": "",
	} {
		path := filepath.Join(dir, unit)
		verify := exec.Command(analyze, "verify", path)
		if strings.HasPrefix(unit, "mailhaul-fetch") {
			verify = exec.Command(analyze, "--user", "verify", path)
		}
		verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "XDG_RUNTIME_DIR="+dir)
		out, err := verify.CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "mailhaul") {
				t.Errorf("%s: %s", unit, line)
			}
		}
		if err != nil {
			t.Errorf("verify %s: %v: %s", unit, err, out)
		}
		if most == "" {
			continue
		}
		// The exposure that systemd-analyze prints goes from 0 to 100.
		// With POSIXLY_CORRECT set, options must come first.
		security := exec.Command(analyze, "--no-pager", "--offline=true", "--threshold="+most, "security", strings.Replace(path, "@ada", "@", 1))
		if out, err := security.CombinedOutput(); err != nil {
			t.Errorf("security of %s: %v: %s", unit, err, out)
		}
	}
}

// mailhaul knows the command lines of the units and of the image.
func TestUnitCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/systemd/*.service")
	if err != nil || len(files) == 0 {
		t.Fatalf("units %q, error %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`(?m)^ExecStart=` + installed + ` (.*)$`).FindSubmatch(text)
		if m == nil {
			t.Errorf("%s starts no mailhaul", file)
			continue
		}
		expectKnownCommand(t, strings.Fields(string(m[1])))
	}
	m := regexp.MustCompile(`(?m)^CMD \[(.*)\]$`).FindStringSubmatch(containerfile(t))
	if m == nil {
		t.Fatal("the image has no command")
	}
	expectKnownCommand(t, strings.Split(strings.ReplaceAll(m[1], `"`, ""), ", "))
}

// expectKnownCommand runs a command line without a configuration, and fails the test
// unless that is all that is wrong.
func expectKnownCommand(t *testing.T, args []string) {
	t.Helper()
	t.Setenv("MAILHAUL_CONFIG", filepath.Join(t.TempDir(), "none.yaml"))
	var said bytes.Buffer
	if code := run(t.Context(), append([]string{"mailhaul"}, args...), stdio{out: &said, err: &said}); code != exitConfig {
		t.Errorf("mailhaul %q: exit code %d: %s", args, code, &said)
	}
}

func containerfile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The build command of the image makes a static binary, from the files that the image
// copies, and with the version of Go in go.mod.
func TestContainerfile(t *testing.T) {
	text := containerfile(t)
	m := regexp.MustCompile(`(?m)^RUN (.*go build .*) -o /mailhaul (\./cmd/mailhaul)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("it builds no mailhaul")
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)[1]
	if !strings.Contains(text, "golang:"+string(version)+"-") {
		t.Errorf("it is not built with Go %s", version)
	}
	// A folder of the host that is mounted there is empty before the first fetch.
	volume := regexp.MustCompile(`(?m)^VOLUME (\S+)$`).FindStringSubmatch(text)
	if volume == nil || !strings.Contains(text, " TMPDIR="+volume[1]+" ") {
		t.Error("TMPDIR is not what the volume is sure to have: its top")
	}
	if testing.Short() {
		t.Skip("the build takes a while")
	}
	binary := filepath.Join(t.TempDir(), "mailhaul")
	build := exec.Command("sh", "-c", m[1]+` -o "$1" `+m[2], "sh", binary)
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if runtime.GOOS == "linux" {
		f, err := elf.Open(binary)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("the binary is not static: it has a %v", p.Type)
			}
		}
	}
	// The go command sees the commit only if .git is a folder.
	want := `^mailhaul \S+, go1\.`
	if info, err := os.Stat("../../.git"); err == nil && info.IsDir() {
		want = `^mailhaul \S+, commit [0-9a-f]{12}( \(modified\))?, go1\.`
	}
	out, err := exec.Command(binary, "--version").Output()
	if err != nil || !regexp.MustCompile(want).Match(out) {
		t.Errorf("its version: %s, error %v", out, err)
	}
}
