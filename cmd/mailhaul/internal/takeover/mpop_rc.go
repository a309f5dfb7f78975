package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailhaul/mailhaul/fetch"
)

// mpopRC is what a configuration file of mpop defines.
type mpopRC struct {
	accounts  []*mpopDefinition
	evalLines []int // the lines with eval before the first account
}

// mpopDefinition is the definition of an account, or of the defaults.
type mpopDefinition struct {
	name      string
	commands  map[string]string // the argument of each command
	own       map[string]string // commands without the defaults: other accounts inherit these
	evalLines []int             // the lines with eval
}

// mpopParser parses a configuration file of mpop line by line.
type mpopParser struct {
	mpopRC
	defaults *mpopDefinition
	current  *mpopDefinition // nil before the first
	byName   map[string]*mpopDefinition
}

// parseMpopRC parses a configuration file of mpop. The error has the line.
func parseMpopRC(text string) (mpopRC, error) {
	p := mpopParser{
		defaults: &mpopDefinition{commands: map[string]string{}, own: map[string]string{}},
		byName:   map[string]*mpopDefinition{},
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := p.line(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), n); err != nil {
			return mpopRC{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p.mpopRC, nil
}

// line parses line n: a command, and an argument that may be quoted.
func (p *mpopParser) line(line string, n int) error {
	line = strings.Trim(line, " \t")
	if line == "" || line[0] == '#' {
		return nil
	}
	if !utf8.ValidString(line) || strings.Contains(line, "\x00") {
		return errors.New("is not UTF-8: iconv makes it so")
	}
	command, arg := splitCommand(line)
	switch {
	case command == "eval" && arg == "":
		return errors.New("command eval needs an argument")
	case command == "eval" && p.current == nil:
		p.evalLines = append(p.evalLines, n)
		return nil
	case command == "eval":
		p.current.evalLines = append(p.current.evalLines, n)
		return nil
	case command == "defaults" && arg != "":
		return errors.New("command defaults does not take an argument")
	case command == "defaults":
		p.current = p.defaults
		return nil
	case command == "account":
		return p.beginAccount(arg)
	case p.current == nil:
		return errors.New("the first command must be account or defaults")
	}
	check := mpopArgChecks[command]
	if check == nil {
		return fmt.Errorf("unknown command %s", command)
	}
	value, ok := check(arg)
	switch {
	case !ok && arg == "":
		return fmt.Errorf("command %s needs an argument", command)
	case !ok:
		return fmt.Errorf("invalid argument %s for command %s", arg, command)
	}
	p.current.commands[command], p.current.own[command] = value, value
	return nil
}

// beginAccount begins an account. arg is its name or "name : base, base".
func (p *mpopParser) beginAccount(arg string) error {
	name, bases, inherits := strings.Cut(arg, ":")
	if inherits {
		name = unquote(name)
	}
	a := &mpopDefinition{
		name:      name,
		commands:  maps.Clone(p.defaults.commands),
		own:       map[string]string{},
		evalLines: slices.Clone(p.defaults.evalLines),
	}
	if inherits {
		for base := range strings.SplitSeq(bases, ",") {
			b := p.byName[unquote(base)]
			if b == nil {
				return fmt.Errorf("account %s is not (yet) defined", unquote(base))
			}
			maps.Copy(a.commands, b.own)
			maps.Copy(a.own, b.own)
			a.evalLines = append(a.evalLines, b.evalLines...)
		}
	}
	switch {
	case name == "":
		return errors.New("missing account name")
	case strings.Contains(name, ","):
		return errors.New("an account name must not contain colons or commas")
	case p.byName[name] != nil:
		return fmt.Errorf("account %s was already defined", name)
	}
	slices.Sort(a.evalLines)
	a.evalLines = slices.Compact(a.evalLines)
	p.accounts = append(p.accounts, a)
	p.byName[name], p.current = a, a
	return nil
}

// splitCommand splits a line into its first word and the argument.
func splitCommand(line string) (word, arg string) {
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], unquote(line[i:])
	}
	return line, ""
}

// unquote removes the blanks around an argument, and one pair of quotes. mpop knows no
// escapes.
func unquote(s string) string {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// mpopArgCheck reports whether mpop accepts an argument, and returns it normalized.
type mpopArgCheck func(arg string) (normalized string, ok bool)

// mpopArgChecks has the checks by command.
var mpopArgChecks = map[string]mpopArgCheck{
	"auth":                  authArg,
	"delivery":              deliveryArg,
	"filter":                anyArg,
	"host":                  nonEmptyArg,
	"keep":                  keepArg,
	"killsize":              orWord("off", sizeArg),
	"ntlmdomain":            anyArg,
	"only_new":              onOffArg,
	"password":              anyArg,
	"passwordeval":          anyArg,
	"pipelining":            orWord("auto", onOffArg),
	"port":                  numberArg(math.MaxUint16),
	"proxy_host":            anyArg,
	"proxy_port":            orWord("", numberArg(math.MaxUint16)),
	"received_header":       onOffArg,
	"skipsize":              orWord("off", sizeArg),
	"socket":                anyArg,
	"source_ip":             anyArg,
	"timeout":               orWord("off", numberArg(math.MaxInt32)),
	"tls":                   onOffArg,
	"tls_cert_file":         anyArg,
	"tls_certcheck":         onOffArg,
	"tls_crl_file":          anyArg,
	"tls_fingerprint":       fingerprintArg,
	"tls_force_sslv3":       anyArg,
	"tls_host_override":     anyArg,
	"tls_key_file":          anyArg,
	"tls_min_dh_prime_bits": orWord("", numberArg(math.MaxInt32)),
	"tls_priorities":        anyArg,
	"tls_starttls":          onOffArg,
	"tls_trust_file":        anyArg,
	"uidls_file":            nonEmptyArg,
	"user":                  anyArg,
}

func anyArg(s string) (string, bool)      { return s, true }
func nonEmptyArg(s string) (string, bool) { return s, s != "" }

// onOffArg checks on or off; no argument is on.
func onOffArg(s string) (string, bool) {
	return cmp.Or(s, "on"), s == "" || s == "on" || s == "off"
}

// orWord returns a check that also accepts a word.
func orWord(word string, check mpopArgCheck) mpopArgCheck {
	return func(s string) (string, bool) {
		if s == word {
			return s, true
		}
		return check(s)
	}
}

// numberArg returns a check for a number from 1 to limit.
func numberArg(limit int64) mpopArgCheck {
	return func(s string) (string, bool) {
		n, err := strconv.ParseInt(s, 0, 64) // also hexadecimal and octal
		return strconv.FormatInt(n, 10), err == nil && n > 0 && n <= limit
	}
}

// sizeArg checks a size, such as 1000, 10k or 10m, and returns it in octets.
func sizeArg(s string) (string, bool) {
	digits := strings.TrimRight(s, "km")
	n, err := strconv.ParseInt(digits, 0, 64)
	shift, ok := map[string]uint{"": 0, "k": 10, "m": 20}[s[len(digits):]]
	return strconv.FormatInt(n<<shift, 10), ok && err == nil && n >= 0 && n < 1<<40
}

// authArg checks a mechanism. "" and on let mpop choose, and become "".
func authArg(s string) (string, bool) {
	if s == "" || s == "on" {
		return "", true
	}
	return s, s == "ntlm" || slices.Contains(fetch.AuthNames, s)
}

// deliveryArg checks a method of delivery and its argument, and returns them with one
// blank between them.
func deliveryArg(s string) (string, bool) {
	method, arg := splitCommand(s)
	return method + " " + arg, arg != "" && slices.Contains([]string{"mda", "maildir", "mbox", "exchange"}, method)
}

var mpopDuration = regexp.MustCompile(`^([0-9]+[dhms])+$`)

// keepArg checks on, off or a duration such as 1d12h. A duration of zero becomes off.
func keepArg(s string) (string, bool) {
	if on, ok := onOffArg(s); ok {
		return on, true
	}
	if strings.Trim(s, "0dhms") == "" {
		return "off", mpopDuration.MatchString(s)
	}
	return s, mpopDuration.MatchString(s)
}

// mpopFingerprint matches a fingerprint by SHA-256, SHA-1 or MD5.
var mpopFingerprint = regexp.MustCompile(`^([0-9a-fA-F]{2}:){31}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}:){19}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}:){15}[0-9a-fA-F]{2}$`)

// fingerprintArg checks a fingerprint, and returns it with colons.
func fingerprintArg(s string) (string, bool) {
	s = strings.ReplaceAll(s, " ", ":")
	return s, s == "" || mpopFingerprint.MatchString(s)
}
