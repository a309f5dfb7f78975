package servertest

import (
	"os"
	"os/exec"
)

// Program returns the path of a program. It also searches the directories of system
// programs, which may not be in the PATH of an ordinary user. If the program is not
// installed, the test is skipped, or fails if servers are required: with CI or
// MAILHAUL_REQUIRE_SERVERS=1 in the environment.
func Program(tb TB, name string) string {
	tb.Helper()
	for _, file := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	skipMissing(tb, name)
	return ""
}

// skipMissing ends a test that needs something that is not installed, as Program does.
func skipMissing(tb TB, what string) {
	tb.Helper()
	if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
		tb.Fatalf("%s is missing; run .ci/deps", what)
	}
	tb.Skipf("NOT TESTED: %s is missing; run .ci/deps to install it", what)
}
