// Package oldids reads the files in which other fetchers, and Thunderbird,
// remember what they left on a server, so that none of it is fetched once more.
package oldids

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

// Maildrop is what a fetcher remembers of one. User and Host are empty in a
// file that is about a single one: its name says which, if anything does.
type Maildrop struct {
	User, Host string
	UIDs       []string // unique-ids, as the server gave them (RFC 1939 §7)
}

// Read reads such a file, in the format of whichever program has written it:
// fetchmail (.fetchids), getmail and getmail6 (oldmail-…), mpop (uidls_file), fdm
// (cache) or Thunderbird (popstate.dat). program is its name, empty for a file that
// holds nothing. A line that is none of that program's is an error: what is not
// understood would be fetched again.
func Read(r io.Reader) (program string, drops []Maildrop, err error) {
	var f *format
	var p parser
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSuffix(lines.Text(), "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if f == nil {
			if f = detect(line); f == nil {
				return "", nil, fmt.Errorf("line %d is none that fetchmail, getmail, mpop, fdm or Thunderbird writes", n)
			}
		}
		if !f.parse(&p, line) {
			return "", nil, fmt.Errorf("line %d is none that %s writes", n, f.program)
		}
	}
	if err := lines.Err(); err != nil {
		return "", nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if p.mpopLeft > 0 {
		return "", nil, fmt.Errorf("it ends where %d more lines should follow", p.mpopLeft)
	}
	if f == nil {
		return "", nil, nil
	}
	return f.program, p.drops, nil
}

// format is how a program writes its lines. parse takes in one, or reports
// that it is no such line.
type format struct {
	program string
	matches func(line string) bool // the file, by its first line
	parse   func(p *parser, line string) bool
}

var formats = []format{
	{"getmail", func(line string) bool { return strings.Contains(line, "\x00") }, (*parser).getmail},
	{"Thunderbird", func(line string) bool { return line == "# POP3 State File" }, (*parser).thunderbird},
	{"mpop", func(line string) bool { return line[0] == '#' || line[0] == ' ' }, (*parser).mpop},
	{"fdm", func(line string) bool { return new(parser).fdm(line) }, (*parser).fdm},
	{"fetchmail", func(line string) bool { return new(parser).fetchmail(line) }, (*parser).fetchmail},
}

func detect(line string) *format {
	for i := range formats {
		if formats[i].matches(line) {
			return &formats[i]
		}
	}
	return nil
}

type parser struct {
	drops            []Maildrop
	index            map[[2]string]int // of drops, by user and host
	mpopLeft         int               // lines that the last one of mpop should still have
	mpopWithoutTimes bool              // mpop's: they have no times

	user, host string // of Thunderbird's lines
}

// add notes a unique-id of a maildrop.
func (p *parser) add(user, host, uid string) {
	i, ok := p.index[[2]string{user, host}]
	if !ok {
		if p.index == nil {
			p.index = map[[2]string]int{}
		}
		i = len(p.drops)
		p.index[[2]string{user, host}] = i
		p.drops = append(p.drops, Maildrop{User: user, Host: host})
	}
	p.drops[i].UIDs = append(p.drops[i].UIDs, uid)
}

// fetchmail: "user@host uid". Both the user and the unique-id may hold an "@",
// the user blanks as well.
func (p *parser) fetchmail(line string) bool {
	line = strings.TrimSpace(line)
	blank := strings.LastIndexAny(line, " \t")
	who := strings.TrimSpace(line[:max(blank, 0)])
	at := strings.LastIndexByte(who, '@')
	if at < 1 || strings.ContainsAny(who[at:], " \t") {
		return false
	}
	p.add(who[:at], who[at+1:], line[blank+1:])
	return true
}

// getmail: the unique-id, NUL, and when the message was seen first.
func (p *parser) getmail(line string) bool {
	nul := strings.LastIndexByte(line, 0)
	if nul < 1 {
		return false
	}
	if _, err := strconv.ParseInt(line[nul+1:], 10, 64); err != nil {
		return false
	}
	if uid := trimBlanks(line[:nul]); uid != "" {
		p.add("", "", uid)
	}
	return true
}

// mpop: comments; and for each maildrop " number-of-uids host user" with as
// many lines, a unique-id in each. From 1.4.23 on, the time in seconds when it was
// seen first follows.
func (p *parser) mpop(line string) bool {
	switch {
	case p.mpopLeft > 0:
		p.mpopLeft--
		if blank := strings.LastIndexByte(line, ' '); blank > 0 && !p.mpopWithoutTimes {
			if _, err := strconv.ParseInt(line[blank+1:], 10, 64); err == nil {
				line = line[:blank]
			}
		}
		uid, last := trimBlanks(line), &p.drops[len(p.drops)-1]
		last.UIDs = append(last.UIDs, uid)
		return uid != "" && uid[0] != ' ' // which begins the next list
	case line[0] == '#':
		if _, version, ok := strings.Cut(line, " mpop version "); ok {
			p.mpopWithoutTimes = mpopLacksTimes(version)
		}
		return true
	}
	number, who, _ := strings.Cut(strings.TrimPrefix(line, " "), " ")
	host, user, _ := strings.Cut(who, " ")
	n, err := strconv.Atoi(number)
	if line[0] != ' ' || err != nil || n < 1 || host == "" || user == "" {
		return false
	}
	p.mpopLeft = n
	p.drops = append(p.drops, Maildrop{User: user, Host: host})
	return true
}

// thunderbird: comments; and for each maildrop "*host user", with a line for each
// message: its state, its unique-id and, but for old versions, when it came. The state
// is k (kept) or d (to be deleted), or b (too big) or f (the rest is to be fetched):
// of these Thunderbird has no more than the beginning.
func (p *parser) thunderbird(line string) bool {
	if line[0] == '#' {
		return true
	}
	if who, ok := strings.CutPrefix(line, "*"); ok {
		p.host, p.user, ok = strings.Cut(who, " ")
		return ok && p.host != "" && p.user != ""
	}
	words := strings.Split(line, " ")
	if p.host == "" || len(words) < 2 || len(words) > 3 || words[1] == "" {
		return false
	}
	switch words[0] {
	case "k", "d":
		p.add(p.user, p.host, words[1])
		return true
	case "b", "f":
		return true
	}
	return false
}

// trimBlanks leaves out the blanks at the end of a unique-id, as our listings do: some
// servers put one behind each.
func trimBlanks(uid string) string { return strings.TrimRight(uid, " \t") }

// mpopLacksTimes reports whether a version of mpop is one before 1.4.23.
func mpopLacksTimes(version string) bool {
	n := make([]int, 3)
	fmt.Sscanf(version, "%d.%d.%d", &n[0], &n[1], &n[2]) // what is not there is 0
	return slices.Compare(n, []int{1, 4, 23}) < 0
}

// fdm: the length of the unique-id, and the unique-id.
func (p *parser) fdm(line string) bool {
	length, uid, _ := strings.Cut(line, " ")
	if n, err := strconv.Atoi(length); err != nil || n != len(uid) || n == 0 {
		return false
	}
	p.add("", "", uid)
	return true
}

// Written returns a unique-id as a program writes it that does not keep all of
// it.
func Written(program, uid string) string {
	switch program {
	case "fetchmail":
		if blank := strings.IndexAny(uid, " \t"); blank >= 0 {
			uid = uid[:blank]
		}
	case "getmail":
		uid = strings.ReplaceAll(uid, "/", "-")
	}
	return uid
}

// String names the maildrop, and is empty if it has no name.
func (d Maildrop) String() string {
	if d.User == "" {
		return ""
	}
	return d.User + "@" + d.Host
}

// Pick returns what is known of the maildrop of a user at a host. Fetchers may have had
// another name for either. If there is no such maildrop, the only one of that user will
// do, or one without a name; or, as the login may have been with the domain or without
// it, the only one at the host with that local part.
func Pick(drops []Maildrop, user, host string) (Maildrop, error) {
	var of, alike []Maildrop // the user
	for _, d := range drops {
		here := strings.EqualFold(d.Host, host)
		switch {
		case d.User == "", d.User == user && here:
			return d, nil
		case d.User == user:
			of = append(of, d)
		case here && localPart(d.User) == localPart(user):
			alike = append(alike, d)
		}
	}
	switch {
	case len(of) == 1:
		return of[0], nil
	case len(of) == 0 && len(alike) == 1 && (localPart(user) == user || localPart(alike[0].User) == alike[0].User):
		return alike[0], nil
	case len(drops) == 0:
		return Maildrop{}, errors.New("it names no message at all")
	}
	near := slices.Concat(of, alike)
	if len(near) == 0 {
		near = drops
	}
	var known []string
	for _, d := range near {
		known = append(known, d.String())
	}
	return Maildrop{}, fmt.Errorf("it knows nothing of %s at %s, but of %s", user, host, oneline.Some(known, maxNamed))
}

// maxNamed bounds the maildrops that an error names: a file may have thousands.
const maxNamed = 10

// localPart returns a user without the domain.
func localPart(user string) string {
	local, _, _ := strings.Cut(user, "@")
	return local
}
