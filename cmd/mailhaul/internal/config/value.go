package config

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// text reads a scalar as it is written: 0123 stays 0123, and no stays no.
func (p *parser) text(v value) (string, bool) {
	switch {
	case v.node.Kind == yaml.SequenceNode:
		p.fail(v, `quote a value that starts with [`, "is a list where one value is wanted")
	case v.node.Kind != yaml.ScalarNode:
		p.fail(v, "quote a value that starts with { or holds a colon", "is a mapping where one value is wanted")
	case !strings.HasPrefix(v.node.Tag, "!!"):
		p.fail(v, "quote a value that starts with !", "holds a YAML tag")
	case isNull(v.node) || v.node.Value == "":
		p.fail(v, `quote a value that starts with # or & or is ~`, "is empty")
	case strings.ContainsFunc(v.node.Value, isControl):
		p.fail(v, "", "holds a line break or control character")
	default:
		return v.node.Value, true
	}
	return "", false
}

// checkNotTruncated checks that v does not end before a # that may belong to it. To
// YAML, a space and a # begin a comment, which would silently cut a password.
func (p *parser) checkNotTruncated(v value) bool {
	comment := strings.TrimPrefix(v.node.LineComment, "#")
	if comment == "" || strings.ContainsAny(comment[:1], " \t#") {
		return true
	}
	p.fail(v, "quote the value, or put a space after the #", "ends before a #, which begins a comment")
	return false
}

// isControl reports whether r is an ASCII control character.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// items returns the values of a list, or v itself if it is not a list.
func (p *parser) items(v value) []value {
	if v.node.Kind != yaml.SequenceNode {
		return []value{v}
	}
	if len(v.node.Content) == 0 {
		p.fail(v, "", "is an empty list")
	}
	var all []value
	for _, n := range v.node.Content {
		all = append(all, value{node: resolveAlias(n), line: n.Line, where: v.where})
	}
	return all
}

// texts reads a list of scalars, or a single one, as they are written.
func (p *parser) texts(v value) ([]string, bool) {
	var all []string
	allOK := true
	for _, item := range p.items(v) {
		s, ok := p.text(item)
		all, allOK = append(all, s), allOK && ok
	}
	return all, allOK && len(all) > 0
}

// boolean reads true or false, or one of the other words of YAML for them.
func (p *parser) boolean(v value, into *bool) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		*into = true
	case "false", "no", "off":
		*into = false
	default:
		p.fail(v, "write true or false", "%s is neither true nor false", quote(s))
	}
}

// number reads an integer from low to high.
func (p *parser) number(v value, low, high int, into *int) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		p.fail(v, fmt.Sprintf("write a whole number from %d to %d", low, high), "%s cannot be used", quote(s))
		return
	}
	*into = n
}

// oneOf reads a word that must be one of words.
func (p *parser) oneOf(v value, words ...string) (string, bool) {
	s, ok := p.text(v)
	if ok && !slices.Contains(words, s) {
		p.fail(v, "write "+orList(words), "%s is not known", quote(s))
		ok = false
	}
	return s, ok
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// duration reads a duration from low to high.
func (p *parser) duration(v value, low, high time.Duration, into *time.Duration) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	d, err := parseDuration(s)
	if err != nil {
		p.fail(v, "write 30s, 5m, 1h, 14d or 2w", "%s %v", quote(s), err)
		return
	}
	if d < low || d > high {
		p.fail(v, fmt.Sprintf("write %s to %s", formatDuration(low), formatDuration(high)), "%s is out of range", quote(s))
		return
	}
	*into = d
}

// size reads a number of octets: 500k, 10M, 1.5G, in steps of 1024.
func (p *parser) size(v value, into *int64) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	n, ok := parseSize(s)
	if !ok {
		p.fail(v, "write 500k, 10M or 1G", "%s is not a size", quote(s))
		return
	}
	*into = n
}

// malformedVariable matches ${} and a ${ that no } follows.
var malformedVariable = regexp.MustCompile(`\$\{(\}|[^}]*$)`)

// path reads the path of a file, and makes it absolute. It expands ~/ and variables.
func (p *parser) path(v value) (string, bool) {
	s, ok := p.text(v)
	if !ok {
		return "", false
	}
	if s == "~" || strings.HasPrefix(s, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			p.fail(v, "set HOME, or write the whole path", "there is no home folder for ~")
			return "", false
		}
		s = home + s[1:]
	} else if strings.HasPrefix(s, "~") {
		p.fail(v, "write the whole path", "only ~/ is expanded, not %s", quote(s))
		return "", false
	}
	// os.Expand would silently drop such a variable. An escaped $$ is no part of one.
	if malformedVariable.MatchString(strings.ReplaceAll(s, "$$", "_")) {
		p.fail(v, "write ${NAME}, or $$ for a $ itself", "holds a ${ without a name and a }")
		return "", false
	}
	s = os.Expand(s, func(name string) string {
		if name == "$" {
			return "$"
		}
		val, set := os.LookupEnv(name)
		if !set {
			p.fail(v, "set it, or write the whole path", "the variable %s is not set", quote("$"+name))
			ok = false
		}
		return val
	})
	if !filepath.IsAbs(s) {
		if p.dir == "" {
			p.fail(v, "write the whole path", "%s is relative to the configuration, which is no file", quote(s))
			return "", false
		}
		s = filepath.Join(p.dir, s)
	}
	s = filepath.Clean(s)
	if ok {
		p.display[v.nodeKey()] = EscapePath(s)
	}
	return s, ok
}

// formatDuration writes d as a whole number of its largest unit, such as 2w.
func formatDuration(d time.Duration) string {
	for _, unit := range []string{"w", "d", "h", "m"} {
		if d > 0 && d%units[unit] == 0 {
			return fmt.Sprint(int64(d/units[unit])) + unit
		}
	}
	return d.String()
}

// units of durations. A month and a year have no fixed length.
var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	"d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// parseDuration reads a sequence of whole numbers with units: 90s, 1h30m, 2w.
func parseDuration(s string) (time.Duration, error) {
	var total time.Duration
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("is not a duration")
		}
		rest = rest[digits:]
		letters := strings.IndexAny(rest, "0123456789")
		if letters < 0 {
			letters = len(rest)
		}
		unit, ok := units[rest[:letters]]
		switch {
		case letters == 0:
			return 0, fmt.Errorf("has no unit")
		case !ok:
			return 0, fmt.Errorf("is not a duration")
		case n > int64((math.MaxInt64-total)/unit):
			return 0, fmt.Errorf("is too long")
		}
		total += time.Duration(n) * unit
		rest = rest[letters:]
	}
	return total, nil
}

// parseSize reads a number with an optional unit, such as 500k or 1.5 GiB.
func parseSize(s string) (int64, bool) {
	num := strings.TrimRight(s, "kKMGTiB ")
	unit := strings.TrimSpace(s[len(num):])
	if unit != "i" {
		unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "i")
	}
	shift, ok := map[string]uint{"": 0, "k": 10, "K": 10, "M": 20, "G": 30, "T": 40}[unit]
	f, err := strconv.ParseFloat(num, 64)
	f *= float64(uint64(1) << shift)
	if !ok || err != nil || strings.Trim(num, "0123456789.") != "" || f < 1 || f >= 1<<62 {
		return 0, false
	}
	return int64(f), true
}
