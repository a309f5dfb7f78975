package takeover

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestShellLine(t *testing.T) {
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	for line, want := range map[string][]string{
		"/usr/bin/procmail -f '%F' -d joe":                      {"/usr/bin/procmail", "-f", "{sender}", "-d", "joe"},
		`maildrop  -A "X-From: %F"  '' a'b'c`:                   {"maildrop", "-A", "X-From: {sender}", "", "abc"},
		"~/bin/deliver --from=%F a{%F} a{x}":                    {"~/bin/deliver", "--from={sender}", "a{{{sender}}", "a{{x}"},
		"/usr/bin/procmail -f '%F' -d $USER":                    sh(`/usr/bin/procmail -f "$MAILHAUL_SENDER" -d $USER`),
		"msmtp --from='%F' -- $USER@`hostname`.`dnsdomainname`": sh("msmtp --from=\"$MAILHAUL_SENDER\" -- $USER@`hostname`.`dnsdomainname`"),
		`spamc | "$HOME/deliver" "%F" >>~/log`:                  sh(`spamc | "$HOME/deliver" "$MAILHAUL_SENDER" >>~/log`),
		"exec deliver a%F":                                      sh(`exec deliver a"$MAILHAUL_SENDER"`),
		"deliver ~/Mail ${USER} ${user}":                        sh("deliver ~/Mail ${{USER} ${{user}"),
		"A=b deliver":                                           sh("A=b deliver"),
		"~joe/deliver":                                          sh("~joe/deliver"),
		"deliver #%F":                                           nil,
		"deliver 'from %F'; true":                               nil,
		`deliver "%F`:                                           nil,
		`deliver "\"%F"`:                                        nil,
		`deliver \'%F`:                                          nil,
		"deliver `echo %F`":                                     nil,
		"deliver $(echo '%F')":                                  nil,
		"deliver <<%F":                                          nil,
		"true; %F":                                              nil,
		"'%F' x":                                                nil,
		"eval deliver '%F'":                                     nil,
		`sh -c "deliver %F"`:                                    nil,
		`sh -c '%F'`:                                            nil,
		"ssh host deliver '%F'":                                 nil,
		"spamc | /usr/bin/perl -e '%F'":                         nil,
		"true && env -S '%F'":                                   nil,
		"true && flock -c '%F'":                                 nil,
	} {
		got, safe := shellLine(line)
		if want == nil {
			want = sh(strings.ReplaceAll(line, "%F", nobody))
			if safe {
				t.Errorf("%s is safe: %q", line, got)
			}
		} else if !safe {
			t.Errorf("%s is not safe", line)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s became %q, want %q", line, got, want)
		}
	}
}

// Whatever the sender is called, a shell runs what it runs otherwise.
func FuzzSenderScript(f *testing.F) {
	for _, line := range []string{"a '%F'", `a "%F" %F`, "a `b` '%F'", "a 'x %F'", `a "` + "`" + `%F"`, "a ''%F''", `a"'"%F"'"`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if !strings.Contains(line, "%F") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || !strings.ContainsRune("a %F'\"`=;()|&-", r) }) {
			return
		}
		script, safe := senderScript(line)
		if !safe {
			return
		}
		run := func(sender string) string {
			cmd := exec.Command("sh", "-xc", "a() { :; }; "+script)
			cmd.Env, cmd.Dir = append(os.Environ(), "PATH=", "MAILHAUL_SENDER="+sender), t.TempDir()
			out, _ := cmd.CombinedOutput()
			return string(out)
		}
		const odd = `$(x);';"; x` + "`x`"
		plain, got := run("joe"), run(odd)
		if strings.Count(plain, "\n") != strings.Count(got, "\n") {
			t.Errorf("%q became %q, which runs %q for joe, %q for another", line, script, plain, got)
		}
	})
}
