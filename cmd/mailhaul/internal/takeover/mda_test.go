package takeover

import (
	"fmt"
	"testing"
)

// What a shell is not needed for is run without one; and nothing that a sender writes
// comes to where it could be run.
func TestMDASink(t *testing.T) {
	const script = `[{mda [sh -c %s]}]`
	for mda, want := range map[string]string{
		"procmail -d %T":                "[{mda [procmail -d me]}]",
		"~/bin/deliver  -f '%F' \"%T\"": "[{mda [~/bin/deliver -f {sender} me]}]",
		"sendmail -f<%F> %T":            "",
		"/usr/bin/procmail":             "[{mda [/usr/bin/procmail]}]",
		"deliver a{b}c {{":              fmt.Sprintf(script, "deliver a{{b}c {{{{"),
		"X=1 deliver -r %F":             fmt.Sprintf(script, `X=1 deliver -r "$MAILHAUL_SENDER"`),
		"X=1 deliver --from=%F":         fmt.Sprintf(script, `X=1 deliver --from="$MAILHAUL_SENDER"`),
		"spamc | procmail -f '%F' %T":   fmt.Sprintf(script, `spamc | procmail -f "$MAILHAUL_SENDER" me`),
		`ssh mx "deliver %T"`:           fmt.Sprintf(script, `ssh mx "deliver me"`),
		`a 'b c' \"%F`:                  "",
		`deliver "a -f %F"`:             "",
		`deliver 'a -f %F'`:             "",
		"deliver `echo -f %F`":          "",
		`deliver \%F`:                   "",
		`deliver ${X:- -f %F}`:          "",
		"deliver $(echo -f %F)":         "",
		"x; ssh mx deliver -f %F":       "",
		"ssh mx deliver -f %F":          "",
		"eval deliver -f %F; y":         "",
		"x | xargs deliver -f %F":       "",
		"deliver # ' -f %F":             "",
		"cat <<-f %F | x":               "",
		"a\nb":                          "",
		"%F":                            "",
		"x | nice -- %F":                "",
		"find . -exec %F ;":             "",
		"x; env -S %F":                  "",
		"x; sh -c %F":                   "",
	} {
		keys, ok := mdaSink(mda, "me")
		got := ""
		if ok {
			got = fmt.Sprint(keys)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", mda, got, want)
		}
	}
	for _, to := range []string{"$(id)", "-o", "a b", "a'b"} {
		if keys, ok := mdaSink("procmail -d %T", to); ok {
			t.Errorf("%q: %v", to, keys)
		}
	}
}
