package program

import (
	"os"
	"slices"
	"strings"
)

// allowedEnv are the variables of our environment that a program gets, in addition to LC_*
// and XDG_*. The others may contain passwords.
var allowedEnv = []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}

// environ returns the environment of a program, with more added.
func environ(more []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(allowedEnv, name) && !strings.HasPrefix(name, "LC_") && !strings.HasPrefix(name, "XDG_")
	})
	return append(env, more...)
}
