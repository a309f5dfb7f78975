package config

import (
	"maps"
	"os"
	"path/filepath"
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
	mda     MDA
	smtp    SMTP
	imap    IMAP
	discard bool

	// These are of several kinds.
	server  Server
	timeout time.Duration
	yes     bool
	// raw holds what can be read only once the kind is known.
	raw map[string]value
}

// later keeps the value of a key until the kind of the sink is known.
func later(key string) func(*parser, value, *sinkFile) {
	return func(_ *parser, v value, s *sinkFile) { s.raw[key] = v }
}

// kinds are the kinds of sinks, each by the key that names its place, with
// the other keys that it has.
var kinds = []struct {
	key     string
	options []string
}{
	{"maildir", []string{"folder", "mode"}},
	{"mbox", []string{"lock_timeout"}},
	{"mda", []string{"recipient", "dir", "timeout"}},
	{"smtp", smtpOptions},
	{"lmtp", smtpOptions},
	{"imap", append([]string{"folder", "create_folder", "flags"}, serverOptions...)},
	{"discard", []string{"yes_delete"}},
}

var (
	serverOptions = slices.Concat(tlsNames, viaNames, credentialKeys, []string{"user", "auth", "password_timeout", "timeout"})
	smtpOptions   = append([]string{"to", "sender", "null_sender", "hello"}, serverOptions...)
)

var sinkKeys = keys[sinkFile]{
	"maildir":       func(p *parser, v value, s *sinkFile) { s.maildir.Path, _ = p.path(v) },
	"mode":          func(p *parser, v value, s *sinkFile) { p.mode(v, &s.maildir) },
	"mbox":          func(p *parser, v value, s *sinkFile) { s.mbox.Path, _ = p.path(v) },
	"lock_timeout":  func(p *parser, v value, s *sinkFile) { p.duration(v, 0, time.Hour, &s.mbox.LockTimeout) },
	"mda":           func(p *parser, v value, s *sinkFile) { s.mda.Argv = p.argv(v) },
	"recipient":     func(p *parser, v value, s *sinkFile) { s.mda.Recipient, _ = p.text(v) },
	"dir":           func(p *parser, v value, s *sinkFile) { s.mda.Dir, _ = p.path(v) },
	"timeout":       func(p *parser, v value, s *sinkFile) { p.duration(v, time.Second, time.Hour, &s.timeout) },
	"smtp":          later("smtp"),
	"lmtp":          later("lmtp"),
	"imap":          later("imap"),
	"to":            later("to"),
	"sender":        later("sender"),
	"null_sender":   func(p *parser, v value, s *sinkFile) { p.boolean(v, &s.smtp.NullSender) },
	"hello":         func(p *parser, v value, s *sinkFile) { s.smtp.Hello, _ = p.text(v) },
	"folder":        later("folder"),
	"create_folder": func(p *parser, v value, s *sinkFile) { p.boolean(v, &s.imap.Create) },
	"flags":         func(p *parser, v value, s *sinkFile) { s.imap.Flags, _ = p.texts(v) },
	"discard":       func(p *parser, v value, s *sinkFile) { p.boolean(v, &s.discard) },
	"yes_delete":    func(p *parser, v value, s *sinkFile) { p.boolean(v, &s.yes) },
}.and(tlsKeys(func(s *sinkFile) *Security { return &s.server.Security })).
	and(viaKeys(func(s *sinkFile) *Via { return &s.server.Via })).
	and(loginKeys(sinkAuthNames, func(s *sinkFile) *Login { return &s.server.Login }))

func (p *parser) sinks(v value) []Sink {
	var out []Sink
	for _, e := range p.entries(v) {
		at := value{node: e.value.node, line: e.line, where: "sink " + e.key}
		named := p.name(at, e.key)
		if !named {
			at.where = "sink " + quoteKey(e.key)
		}
		if named || e.key != "" && quoteKey(e.key) == `"`+e.key+`"` { // what cannot be shown is no choice
			p.sinkList, p.sinkNodes[e.key] = append(p.sinkList, e.key), e.value.node
		}
		out = append(out, p.sink(at, e.key))
	}
	return out
}

// sink reads one sink. It is returned even if it is wrong, so that the
// accounts that name it are not called wrong too.
func (p *parser) sink(v value, name string) Sink {
	f := sinkFile{maildir: Maildir{Mode: 0o600}, mbox: Mbox{LockTimeout: defaultLockTimeout}, raw: map[string]value{}}
	lines := read(p, v, sinkKeys, &f)
	s := Sink{Name: name, Line: v.line}
	kind := p.kind(v, lines)
	switch kind {
	case "":
		p.fail(v, strings.TrimPrefix(v.where, "sink ")+": { maildir: ~/Maildir }, or mbox, mda, smtp, lmtp, imap:", "does not say where the mail goes")
	case "maildir":
		if folder, ok := f.raw["folder"]; ok {
			p.folder(folder, &f.maildir)
		}
		s.Maildir, p.places[name] = &f.maildir, filepath.Join(f.maildir.Path, f.maildir.Folder)
	case "mbox":
		s.Mbox, p.places[name] = &f.mbox, filepath.Clean(f.mbox.Path)
	case "mda":
		f.mda.Timeout, s.MDA = f.timeout, &f.mda
		if f.mda.Recipient == "" && f.mda.usesRecipient() {
			p.needsRoute[name] = "recipient"
		}
	case "smtp", "lmtp", "imap":
		f.server.Timeout = f.timeout
		p.sinkServer(v, f.raw[kind], kind, lines, &f.server)
		if kind == "imap" {
			f.imap.Server, s.IMAP = f.server, &f.imap
			if folder, ok := f.raw["folder"]; ok {
				f.imap.Folder, _ = p.text(folder)
			}
			break
		}
		f.smtp.Server, f.smtp.LMTP, s.SMTP = f.server, kind == "lmtp", &f.smtp
		p.addresses(v, &f)
		if lines["to"] == 0 {
			p.needsRoute[name] = "to"
		}
	case "discard":
		s.Discard = true
		switch at := (value{line: lines["discard"], where: v.where}); {
		case !f.discard:
			p.fail(at, "write discard: true", "does not say where the mail goes")
		case !f.yes:
			p.fail(at, "add yes_delete: true if that is what you want", "discard deletes mail for good")
		}
	}
	return s
}

// kind returns the kind of a sink, and checks that its keys are of that kind.
func (p *parser) kind(v value, lines map[string]int) string {
	kind := ""
	for _, k := range kinds {
		line := lines[k.key]
		if line > 0 && kind != "" {
			p.fail(value{line: line, where: v.where}, "make it two sinks", "is both %s and %s", kind, k.key)
		} else if line > 0 {
			kind = k.key
		}
	}
	if kind == "" {
		return ""
	}
	for _, option := range slices.Sorted(maps.Keys(lines)) {
		var of []string
		for _, k := range kinds {
			if slices.Contains(k.options, option) {
				of = append(of, k.key)
			}
		}
		if len(of) > 0 && !slices.Contains(of, kind) {
			p.fail(value{line: lines[option], where: v.where}, "", "%s is an option of %s, not of %s", option, strings.Join(of, ", "), kind)
		}
	}
	return kind
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
