// Package oldids reads the files in which other fetchers, and Thunderbird, record the
// unique-ids of what they left on a server, so that none of it is fetched again. Read
// returns the Maildrops in a file, and Pick chooses the one of an account.
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

// Maildrop is what a fetcher recorded of a maildrop. User and Host are empty if the file
// is about a single maildrop and does not name it.
type Maildrop struct {
	User, Host string
	UIDs       []string // RFC 1939 §7
}

// Read reads a file of fetchmail (.fetchids), getmail or getmail6 (oldmail-…), mpop
// (uidls_file), fdm (cache) or Thunderbird (popstate.dat). It recognises the format;
// program is the name of the fetcher, empty if the file is. A line that does not have
// the format is an error, since its message would be fetched again.
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

// format is the format of a program.
type format struct {
	program string
	matches func(line string) bool            // whether line can be the first of a file
	parse   func(p *parser, line string) bool // reports whether line has the format
}

var formats = []format{
	{"getmail", func(line string) bool { return strings.Contains(line, "\x00") }, (*parser).getmail},
	{"Thunderbird", func(line string) bool { return line == "# POP3 State File" }, (*parser).thunderbird},
	{"mpop", func(line string) bool { return line[0] == '#' || line[0] == ' ' }, (*parser).mpop},
	{"fdm", func(line string) bool { return new(parser).fdm(line) }, (*parser).fdm},
	{"fetchmail", func(line string) bool { return new(parser).fetchmail(line) }, (*parser).fetchmail},
}

// detect returns the format of a file by its first line, nil if there is none.
func detect(line string) *format {
	for i := range formats {
		if formats[i].matches(line) {
			return &formats[i]
		}
	}
	return nil
}

// parser collects the maildrops in a file, line by line.
type parser struct {
	drops []Maildrop
	index map[[2]string]int // in drops, by user and host

	mpopLeft         int  // lines that must follow for the last maildrop of mpop
	mpopWithoutTimes bool // whether the lines of mpop have no times

	user, host string // the current maildrop of Thunderbird
}

// add adds a unique-id to a maildrop.
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

// fetchmail parses "user@host uid". Both the user and the unique-id may contain "@", and
// the user also blanks.
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

// getmail parses the unique-id, NUL, and the time when the message was first seen.
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

// mpop parses comments, and for each maildrop " number-of-uids host user" and as many
// lines with a unique-id. From version 1.4.23 on, the time when the message was first seen
// follows, in seconds.
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
		return uid != "" && uid[0] != ' ' // a blank begins the next maildrop
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

// mpopLacksTimes reports whether a version of mpop is older than 1.4.23.
func mpopLacksTimes(version string) bool {
	n := make([]int, 3)
	fmt.Sscanf(version, "%d.%d.%d", &n[0], &n[1], &n[2]) // what is not there is 0
	return slices.Compare(n, []int{1, 4, 23}) < 0
}

// thunderbird parses comments, and for each maildrop "*host user" and a line for each
// message: its state, its unique-id and, except in old versions, the time of arrival. The
// state is k (kept), d (to be deleted), b (too big) or f (the rest is to be fetched). Of
// messages in states b and f, Thunderbird has only the beginning.
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

// fdm parses the length of the unique-id, and the unique-id.
func (p *parser) fdm(line string) bool {
	length, uid, _ := strings.Cut(line, " ")
	if n, err := strconv.Atoi(length); err != nil || n != len(uid) || n == 0 {
		return false
	}
	p.add("", "", uid)
	return true
}

// trimBlanks removes blanks at the end of a unique-id, as mailhaul does in listings: some
// servers put one after each.
func trimBlanks(uid string) string { return strings.TrimRight(uid, " \t") }

// Written returns a unique-id in the form in which a program writes it, which may be
// shortened or changed.
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

// String returns user@host, or "" for a maildrop without a name.
func (d Maildrop) String() string {
	if d.User == "" {
		return ""
	}
	return d.User + "@" + d.Host
}

// Pick returns the maildrop of a user at a host, or one without a name. The other fetcher
// may have used a different name for the host, or logged in with or without the domain.
// So if there is no such maildrop, Pick returns the only one of the user at another host;
// or else the only one at the host with the same local part, if either user has no domain.
func Pick(drops []Maildrop, user, host string) (Maildrop, error) {
	var sameUser, sameLocalPart []Maildrop
	for _, d := range drops {
		sameHost := strings.EqualFold(d.Host, host)
		switch {
		case d.User == "", d.User == user && sameHost:
			return d, nil
		case d.User == user:
			sameUser = append(sameUser, d)
		case sameHost && localPart(d.User) == localPart(user):
			sameLocalPart = append(sameLocalPart, d)
		}
	}
	switch {
	case len(sameUser) == 1:
		return sameUser[0], nil
	case len(sameUser) == 0 && len(sameLocalPart) == 1 && !(hasDomain(user) && hasDomain(sameLocalPart[0].User)):
		return sameLocalPart[0], nil
	case len(drops) == 0:
		return Maildrop{}, errors.New("it names no message at all")
	}
	candidates := slices.Concat(sameUser, sameLocalPart)
	if len(candidates) == 0 {
		candidates = drops
	}
	var known []string
	for _, d := range candidates {
		known = append(known, d.String())
	}
	return Maildrop{}, fmt.Errorf("it knows nothing of %s at %s, but of %s", user, host, oneline.Some(known, maxNamed))
}

// maxNamed bounds the maildrops that an error lists: a file may hold thousands.
const maxNamed = 10

func hasDomain(user string) bool { return strings.Contains(user, "@") }

// localPart returns a user without the domain.
func localPart(user string) string {
	local, _, _ := strings.Cut(user, "@")
	return local
}
