package takeover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// netrc holds the entries of a .netrc file (see ftp(1)), in which fetchers look for what
// their own configuration lacks.
type netrc []netrcEntry

type netrcEntry struct {
	machine         string // or netrcDefault
	login, password string
}

// netrcDefault is the machine of an entry for all machines.
const netrcDefault = "\x00"

// netrcSyntax tells how a word is quoted, which the fetchers see differently.
type netrcSyntax int

const (
	// fetchmailNetrc is the syntax of fetchmail and mpop: quotes of both kinds may stand
	// anywhere in a word, up to the end of the line.
	fetchmailNetrc netrcSyntax = iota
	// pythonNetrc is the syntax of getmail and fdm: a word may begin with ", and a backslash
	// quotes the next character.
	pythonNetrc
)

// readNetrc reads a .netrc file. One that cannot be read, or is not text in UTF-8, has no entries.
func readNetrc(path string, syntax netrcSyntax) netrc {
	text, err := os.ReadFile(path)
	if err != nil || !utf8.Valid(text) || strings.Contains(string(text), netrcDefault) {
		return nil
	}
	return parseNetrc(string(text), syntax)
}

// netrc reads the user's .netrc file.
func (b *builder) netrc(syntax netrcSyntax) netrc {
	return readNetrc(filepath.Join(b.home, ".netrc"), syntax)
}

func parseNetrc(text string, syntax netrcSyntax) (entries netrc) {
	p := netrcParser{text: text, syntax: syntax}
	for {
		p.skipSpace()
		if strings.HasPrefix(p.text, "#") {
			p.skipTo("\n")
			continue
		}
		word, ok := p.word()
		if !ok {
			return entries
		}
		switch word {
		case "machine":
			machine, _ := p.word()
			entries = append(entries, netrcEntry{machine: machine})
		case "default":
			entries = append(entries, netrcEntry{machine: netrcDefault})
		case "macdef":
			p.skipTo("\n\n") // an empty line ends a macro
		case "login", "user", "password", "passwd", "account":
			value, _ := p.word()
			if len(entries) == 0 {
				continue
			}
			switch last := &entries[len(entries)-1]; word {
			case "login", "user":
				last.login = value
			case "password", "passwd":
				last.password = value
			}
		}
	}
}

// password returns the first password for a login on the first of the machines that has
// one, empty if none has.
func (n netrc) password(login string, machines ...string) string {
	for _, machine := range machines {
		for _, e := range n {
			if e.machine == machine && e.login == login && e.password != "" {
				return e.password
			}
		}
	}
	return ""
}

// findMachine returns the last entry for a machine, else the last one for all machines.
func (n netrc) findMachine(machine string) netrcEntry {
	for _, wanted := range []string{machine, netrcDefault} {
		for _, e := range slices.Backward(n) {
			if e.machine == wanted {
				return e
			}
		}
	}
	return netrcEntry{}
}

// netrcParser splits a .netrc file into words.
type netrcParser struct {
	text   string // what is left of it
	syntax netrcSyntax
}

const netrcSpace = " \t\r\n"

func (p *netrcParser) skipSpace() { p.text = strings.TrimLeft(p.text, netrcSpace) }

// skipTo skips what comes before and with the next end, or all if there is none.
func (p *netrcParser) skipTo(end string) { _, p.text, _ = strings.Cut(p.text, end) }

// next takes the next character.
func (p *netrcParser) next() (c byte) {
	c, p.text = p.text[0], p.text[1:]
	return c
}

// word takes the next word. ok is false at the end.
func (p *netrcParser) word() (word string, ok bool) {
	p.skipSpace()
	if p.text == "" {
		return "", false
	}
	var b strings.Builder
	if p.syntax == pythonNetrc {
		p.pythonWord(&b)
	} else {
		p.fetchmailWord(&b)
	}
	return b.String(), true
}

func (p *netrcParser) fetchmailWord(b *strings.Builder) {
	var quote byte
	for p.text != "" && p.text[0] != '\n' && (quote != 0 || !strings.ContainsRune(netrcSpace, rune(p.text[0]))) {
		switch c := p.next(); {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		default:
			b.WriteByte(c)
		}
	}
}

func (p *netrcParser) pythonWord(b *strings.Builder) {
	end := netrcSpace
	if p.text[0] == '"' {
		p.next()
		end = `"`
	}
	for p.text != "" {
		c := p.next()
		if strings.ContainsRune(end, rune(c)) {
			return
		}
		if c == '\\' && p.text != "" {
			c = p.next()
		}
		b.WriteByte(c)
	}
}
