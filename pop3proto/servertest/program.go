package servertest

import (
	"os"
	"os/exec"
)

// Program returns the path of a program, also from the folders of system
// programs, which an ordinary user may not have in PATH. Without it the test is
// skipped on a developer's machine; where servers are required, it fails.
func Program(tb TB, name string) string {
	tb.Helper()
	for _, file := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	missing(tb, name)
	return ""
}

// missing ends a test that needs what is not installed.
func missing(tb TB, what string) {
	tb.Helper()
	if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
		tb.Fatalf("%s is missing; run .ci/deps", what)
	}
	tb.Skipf("NOT TESTED: %s is missing; run .ci/deps to install it", what)
}
