package main

import (
	"strings"
	"testing"
)

// Options may follow arguments: they are moved before them.
func TestOptionsFirst(t *testing.T) {
	for args, want := range map[string]string{
		"mailhaul":                                "mailhaul",
		"mailhaul --version":                      "mailhaul --version",
		"mailhaul fetch work -v":                  "mailhaul fetch -v work",
		"mailhaul fetch work --config f home -q":  "mailhaul fetch --config f -q work home",
		"mailhaul fetch work --config=f home":     "mailhaul fetch --config=f work home",
		"mailhaul fetch work -- -odd -v":          "mailhaul fetch -- work -odd -v",
		"mailhaul explain weird -- -x":            "mailhaul explain -- weird -x",
		"mailhaul state forget weird -y -- -x":    "mailhaul state forget -y -- weird -x",
		"mailhaul fetch -- work":                  "mailhaul fetch -- work",
		"mailhaul fetch work home --log-format":   "mailhaul fetch --log-format work home",
		"mailhaul demo --clean --into somewhere":  "mailhaul demo --clean --into somewhere",
		"mailhaul status work --json -c f - home": "mailhaul status --json -c f work - home",
		"mailhaul fetsh work -v":                  "mailhaul fetsh work -v",
		"mailhaul fetch work -q --help":           "mailhaul fetch --help",
		"mailhaul fetch -nq work":                 "mailhaul fetch -n -q work",
		"mailhaul fetch work -nvc f home":         "mailhaul fetch -n -v -c f work home",
		"mailhaul fetch work -cn f":               "mailhaul fetch -cn work f",
		"mailhaul fetch -nc=f work":               "mailhaul fetch -nc=f work",
		"mailhaul fetch -nx work":                 "mailhaul fetch -nx work",
		"mailhaul fetch -keep --nq -":             "mailhaul fetch -keep --nq -",
		"mailhaul fetch --log-format -nq":         "mailhaul fetch --log-format -nq",
		"mailhaul fetch -- -nq":                   "mailhaul fetch -- -nq",
		"mailhaul fetch -nh work":                 "mailhaul fetch --help",
		"mailhaul state forget -yc f work":        "mailhaul state forget -y -c f work",
		"mailhaul fetch -- work -h":               "mailhaul fetch -- work -h",
		"mailhaul help -h fetch":                  "mailhaul help -h fetch",
		"mailhaul --help fetch":                   "mailhaul help fetch",
		"mailhaul --version fetch":                "mailhaul --version",
	} {
		if got := strings.Join(moveOptionsFirst(newApp(stdio{}), strings.Fields(args)), " "); got != want {
			t.Errorf("%s became %s, want %s", args, got, want)
		}
	}
}
