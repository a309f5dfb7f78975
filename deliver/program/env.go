package program

import (
	"os"
	"slices"
	"strings"
)

// allowedEnv are the variables that a program gets of our environment. The
// others may hold passwords.
var allowedEnv = []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}

// environ returns the environment of a program, more added to it.
func environ(more []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(allowedEnv, name) && !strings.HasPrefix(name, "LC_") && !strings.HasPrefix(name, "XDG_")
	})
	return append(env, more...)
}
