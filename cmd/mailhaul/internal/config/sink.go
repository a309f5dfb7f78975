package config

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// defaultLockTimeout is how long to wait for an mbox that is in use.
const defaultLockTimeout = 30 * time.Second

// sinkFile holds the keys of a sink of any kind.
type sinkFile struct {
	maildir Maildir
	mbox    Mbox
}

// kinds are the kinds of sinks, each by the key that names its place, with
// the other keys that it has.
var kinds = []struct {
	key     string
	options []string
}{
	{"maildir", []string{"folder", "mode"}},
	{"mbox", []string{"lock_timeout"}},
}

var sinkKeys = keys[sinkFile]{
	"maildir": func(p *parser, v value, s *sinkFile) { s.maildir.Path, _ = p.path(v) },
	"folder":  func(p *parser, v value, s *sinkFile) { p.folder(v, &s.maildir) },
	"mode":    func(p *parser, v value, s *sinkFile) { p.mode(v, &s.maildir) },
	"mbox":    func(p *parser, v value, s *sinkFile) { s.mbox.Path, _ = p.path(v) },
	"lock_timeout": func(p *parser, v value, s *sinkFile) {
		p.duration(v, 0, time.Hour, &s.mbox.LockTimeout)
	},
}

func (p *parser) sinks(v value) []Sink {
	var out []Sink
	for _, e := range p.entries(v) {
		at := value{node: e.value.node, line: e.line, where: "sink " + e.key}
		if p.name(at, e.key) {
			out = append(out, p.sink(at, e.key))
		}
	}
	return out
}

// sink reads one sink. It is returned even if it is wrong, so that the
// accounts that name it are not called wrong too.
func (p *parser) sink(v value, name string) Sink {
	s := sinkFile{Maildir{Mode: 0o600}, Mbox{LockTimeout: defaultLockTimeout}}
	lines := read(p, v, sinkKeys, &s)
	kind := ""
	for _, k := range kinds {
		line := lines[k.key]
		if line > 0 && kind != "" {
			p.fail(value{line: line, where: v.where}, "make it two sinks", "is both %s and %s", kind, k.key)
		} else if line > 0 {
			kind = k.key
		}
	}
	for _, k := range kinds {
		for _, option := range k.options {
			if line := lines[option]; line > 0 && kind != "" && kind != k.key {
				p.fail(value{line: line, where: v.where}, "", "%s is an option of %s, not of %s", option, k.key, kind)
			}
		}
	}
	switch kind {
	case "maildir":
		return Sink{Name: name, Maildir: &s.maildir}
	case "mbox":
		return Sink{Name: name, Mbox: &s.mbox}
	}
	p.fail(v, name+": { maildir: ~/Maildir }, or mbox:", "does not say where the mail goes")
	return Sink{Name: name}
}

// folder reads a Maildir++ folder: .Sub or .Sub.Folder.
func (p *parser) folder(v value, m *Maildir) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	if !strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") || strings.Contains(s, "/") {
		p.fail(v, "write .Lists or .Lists.Go", "%s is not a Maildir++ folder", quote(s))
		return
	}
	m.Folder = s
}

// mode reads a file mode as chmod does: 0600, 600 and 0o600 are the same.
func (p *parser) mode(v value, m *Maildir) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n&^0o666 != 0 || n&0o600 != 0o600 {
		p.fail(v, "write 0600, 0640, 0644 or 0660", "%s is not the mode of a mail file", quote(s))
		return
	}
	m.Mode = os.FileMode(n)
}

// sinkNames checks the names of sinks in one mapping, whose own keys are
// given.
func (p *parser) sinkNames(v value, own map[string]int, a *Account) {
	for _, named := range []struct{ key, sink string }{{"deliver", a.Deliver}, {"quarantine", a.Quarantine}} {
		if own[named.key] == 0 || named.sink == "" || len(p.sinkList) == 0 || slices.Contains(p.sinkList, named.sink) {
			continue
		}
		_, hint := didYouMean(named.sink, p.sinkList)
		p.fail(value{line: own[named.key], where: v.where}, hint, "%s: there is no sink %s", named.key, quote(named.sink))
	}
}

// route settles which sinks an account delivers to.
func (p *parser) route(v value, a *Account) {
	line := a.lines
	switch {
	case line["deliver"] > 0 || len(p.sinkList) == 0:
	case len(p.sinkList) == 1:
		a.Deliver = p.sinkList[0]
	default:
		p.fail(v, "known: "+strings.Join(p.sinkList, ", "), "deliver is missing, and there are %d sinks to choose from", len(p.sinkList))
	}

	switch {
	case a.quarantineRefused && line["quarantine"] == 0:
		p.fail(value{line: line["refused"], where: v.where}, "quarantine: the name of a sink", "refused: quarantine needs quarantine")
	case line["quarantine"] > 0 && line["refused"] == 0:
		p.fail(value{line: line["quarantine"], where: v.where}, "add refused: quarantine", "quarantine alone has no effect")
	case a.quarantineRefused && a.Quarantine == a.Deliver && a.Deliver != "":
		p.fail(value{line: line["quarantine"], where: v.where}, "name another sink", "quarantine is the sink that refused")
	}
	if !a.quarantineRefused {
		a.Quarantine = ""
	}
}
