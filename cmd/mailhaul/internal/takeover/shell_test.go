package takeover

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A command line that needs no shell is run without one, and no part of a sender's address
// can be run.
func TestMDA(t *testing.T) {
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	for line, want := range map[string][]string{
		"/usr/bin/procmail -f '%F' -d joe":                      {"/usr/bin/procmail", "-f", "{sender}", "-d", "joe"},
		"procmail -d %T":                                        {"procmail", "-d", "me"},
		"~/bin/deliver  -f '%F' \t\"%T\"":                       {"~/bin/deliver", "-f", "{sender}", "me"},
		`maildrop  -A "X-To: me"  '' a'b'c`:                     {"maildrop", "-A", "X-To: me", "", "abc"},
		"~/bin/deliver --from=%F a{%F} a{{%F a{x}":              {"~/bin/deliver", "--from={sender}", "a{{{sender}}", "a{{{{{sender}", "a{{x}"},
		"deliver a{b}c {{":                                      sh("deliver a{{b}c {{{{"),
		"/usr/bin/procmail -f '%F' -d $USER":                    sh(`/usr/bin/procmail -f "$MAILHAUL_SENDER" -d $USER`),
		"X=1 deliver -r %F":                                     sh(`X=1 deliver -r "$MAILHAUL_SENDER"`),
		"X=1 deliver --from=%F":                                 sh(`X=1 deliver --from="$MAILHAUL_SENDER"`),
		"spamc | procmail -f '%F' %T":                           sh(`spamc | procmail -f "$MAILHAUL_SENDER" me`),
		`ssh mx "deliver '%T'"`:                                 {"ssh", "mx", "deliver me"},
		"msmtp --from='%F' -- $USER@`hostname`.`dnsdomainname`": sh("msmtp --from=\"$MAILHAUL_SENDER\" -- $USER@`hostname`.`dnsdomainname`"),
		`spamc | "$HOME/deliver" -f "%F" >>~/log`:               sh(`spamc | "$HOME/deliver" -f "$MAILHAUL_SENDER" >>~/log`),
		"deliver ~/Mail ${USER} ${user}":                        sh("deliver ~/Mail ${USER} ${{user}"),
		"A=b deliver":                                           sh("A=b deliver"),
		"~joe/deliver":                                          sh("~joe/deliver"),
		`maildrop  -A "X-From: %F"`:                             nil,
		"exec deliver a%F":                                      nil,
		`spamc | "$HOME/deliver" "%F" >>~/log`:                  nil,
		"deliver #%F":                                           nil,
		"deliver # ' -f %F":                                     nil,
		"deliver 'from %F'; true":                               nil,
		`deliver "%F`:                                           nil,
		`deliver "\"%F"`:                                        nil,
		`deliver \'%F`:                                          nil,
		`deliver \%F`:                                           nil,
		`a 'b c' \"%F`:                                          nil,
		`deliver "a -f %F"`:                                     nil,
		`deliver 'a -f %F'`:                                     nil,
		"deliver `echo %F`":                                     nil,
		"deliver `echo -f %F`":                                  nil,
		"deliver $(echo '%F')":                                  nil,
		"deliver $(echo -f %F)":                                 nil,
		`deliver ${X:- -f %F}`:                                  nil,
		"deliver <<%F":                                          nil,
		"cat <<-f %F | x":                                       nil,
		"sendmail -f<%F> %T":                                    nil,
		"true; %F":                                              nil,
		"%F":                                                    nil,
		"'%F' x":                                                nil,
		"x | nice -- %F":                                        nil,
		"find . -exec %F ;":                                     nil,
		"eval deliver '%F'":                                     nil,
		"eval deliver -f %F; y":                                 nil,
		"x | xargs deliver -f %F":                               nil,
		"x; . deliver -f %F":                                    nil,
		"x; source deliver -f %F; y":                            nil,
		"X=1 trap x -f %F":                                      nil,
		`sh -c "deliver %F"`:                                    nil,
		`sh -c '%F'`:                                            nil,
		"x; sh -c %F":                                           nil,
		"ssh host deliver '%F'":                                 nil,
		"ssh mx deliver -f %F":                                  nil,
		"x; ssh mx deliver -f %F":                               nil,
		"spamc | /usr/bin/perl -e '%F'":                         nil,
		"true && env -S '%F'":                                   nil,
		"true && flock -c '%F'":                                 nil,
		"a\nb":                                                  nil,
	} {
		if got := mda(line, "me"); !slices.Equal(got, want) {
			t.Errorf("%s became %q, want %q", line, got, want)
		}
	}
	for _, to := range []string{"$(id)", "-o", "a b", "a'b"} {
		if got := mda("procmail -d %T", to); got != nil {
			t.Errorf("%q: %q", to, got)
		}
	}
}

// mda returns the command that a line becomes, nil if the account is disabled.
func mda(line, to string) []string {
	d := (&builder{}).newDraft("a")
	d.addMDA(line, to)
	if d.Disabled {
		return nil
	}
	return d.Sinks[0].Keys[0].Value.([]string)
}

// Whatever the address of the sender, a shell runs the same commands.
func FuzzSenderScript(f *testing.F) {
	for _, line := range []string{
		"a -a '%F'", `a -a "%F"  -a  %F`, "a `a` -a '%F'", "a -a 'a %F'", `a -a "` + "`" + `%F"`, "a -a ''%F''", `a"'" -a "%F"'"'`, `a --a=%F|a"` + "`a`" + `"`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if !strings.Contains(line, "%F") || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || !strings.ContainsRune("a %F'\"`=;()|&-", r) }) {
			return
		}
		script, safe := scriptWithSender(line)
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
