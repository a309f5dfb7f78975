package takeover

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// nameOf makes a name for an account or a sink of what a person would call it.
func nameOf(s string) string {
	const most = 58 // octets, which leaves room for a number
	name := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || config.NameHint("_"+string(r)) != "" {
			return '_'
		}
		return r
	}, s)
	if name == "" || config.NameHint(name[:1]) != "" {
		name = "_" + name
	}
	return name[:min(len(name), most)]
}

// unique returns a name that is not taken yet.
func unique(name string, taken func(string) bool) string {
	free := name
	for n := 2; taken(free); n++ {
		free = name + "-" + strconv.Itoa(n)
	}
	return free
}

// strange reports whether a text cannot stand in a configuration, or is not what the
// other has.
func strange(s string) bool {
	return strings.Contains(s, garbled) || strings.ContainsFunc(s, control)
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// printable returns a text without what cannot stand in a configuration.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, s)
}

// showText returns a text as a remark may have it: a word as it is, others in quotes.
func showText(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}
