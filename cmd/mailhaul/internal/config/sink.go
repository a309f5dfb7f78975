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
type sinkSettings struct {
	maildir Maildir
	mbox    Mbox
	mda     MDA
	smtp    SMTP
	imap    IMAP
	discard bool

	// These are of several kinds.
	server    Server
	timeout   time.Duration
	confirmed bool
	// raw holds what can be read only once the kind is known.
	deferred map[string]value
}

// later keeps the value of a key until the kind of the sink is known.
func deferValue(key string) func(*parser, value, *sinkSettings) {
	return func(_ *parser, v value, s *sinkSettings) { s.deferred[key] = v }
}

// kinds are the kinds of sinks, each by the key that names its place, with
// the other keys that it has.
var sinkKinds = []struct {
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
	serverOptions = slices.Concat(tlsKeys, viaKeys, credentialKeys, []string{"user", "auth", "password_timeout", "timeout"})
	smtpOptions   = append([]string{"to", "sender", "null_sender", "hello"}, serverOptions...)
)

var sinkReaders = keyReaders[sinkSettings]{
	"maildir":       func(p *parser, v value, s *sinkSettings) { s.maildir.Path, _ = p.path(v) },
	"mode":          func(p *parser, v value, s *sinkSettings) { p.readMode(v, &s.maildir) },
	"mbox":          func(p *parser, v value, s *sinkSettings) { s.mbox.Path, _ = p.path(v) },
	"lock_timeout":  func(p *parser, v value, s *sinkSettings) { p.duration(v, 0, time.Hour, &s.mbox.LockTimeout) },
	"mda":           func(p *parser, v value, s *sinkSettings) { s.mda.Argv = p.readProgram(v) },
	"recipient":     func(p *parser, v value, s *sinkSettings) { s.mda.Recipient, _ = p.text(v) },
	"dir":           func(p *parser, v value, s *sinkSettings) { s.mda.Dir, _ = p.path(v) },
	"timeout":       func(p *parser, v value, s *sinkSettings) { p.duration(v, time.Second, time.Hour, &s.timeout) },
	"smtp":          deferValue("smtp"),
	"lmtp":          deferValue("lmtp"),
	"imap":          deferValue("imap"),
	"to":            deferValue("to"),
	"sender":        deferValue("sender"),
	"null_sender":   func(p *parser, v value, s *sinkSettings) { p.boolean(v, &s.smtp.NullSender) },
	"hello":         func(p *parser, v value, s *sinkSettings) { s.smtp.Hello, _ = p.text(v) },
	"folder":        deferValue("folder"),
	"create_folder": func(p *parser, v value, s *sinkSettings) { p.boolean(v, &s.imap.Create) },
	"flags":         func(p *parser, v value, s *sinkSettings) { s.imap.Flags, _ = p.texts(v) },
	"discard":       func(p *parser, v value, s *sinkSettings) { p.boolean(v, &s.discard) },
	"yes_delete":    func(p *parser, v value, s *sinkSettings) { p.boolean(v, &s.confirmed) },
}.with(tlsReaders(func(s *sinkSettings) *Security { return &s.server.Security })).
	with(viaReaders(func(s *sinkSettings) *Via { return &s.server.Via })).
	with(loginReaders(sinkAuthNames, func(s *sinkSettings) *Login { return &s.server.Login }))

func (p *parser) readSinks(v value) []Sink {
	var out []Sink
	for _, e := range p.entries(v) {
		at := value{node: e.value.node, line: e.line, where: "sink " + e.key}
		named := p.checkName(at, e.key)
		if !named {
			at.where = "sink " + quoteKey(e.key)
		}
		if named || e.key != "" && quoteKey(e.key) == `"`+e.key+`"` { // what cannot be shown is no choice
			p.sinkNames, p.sinkNodes[e.key] = append(p.sinkNames, e.key), e.value.node
		}
		out = append(out, p.newSink(at, e.key))
	}
	return out
}

// sink reads one sink. It is returned even if it is wrong, so that the
// accounts that name it are not called wrong too.
func (p *parser) newSink(v value, name string) Sink {
	f := sinkSettings{maildir: Maildir{Mode: 0o600}, mbox: Mbox{LockTimeout: defaultLockTimeout}, deferred: map[string]value{}}
	lines := readMapping(p, v, sinkReaders, &f)
	s := Sink{Name: name, Line: v.line}
	kind := p.sinkKind(v, lines)
	switch kind {
	case "":
		p.fail(v, strings.TrimPrefix(v.where, "sink ")+": { maildir: ~/Maildir }, or mbox, mda, smtp, lmtp, imap:", "does not say where the mail goes")
	case "maildir":
		if folder, ok := f.deferred["folder"]; ok {
			p.readFolder(folder, &f.maildir)
		}
		s.Maildir, p.sinkPaths[name] = &f.maildir, filepath.Join(f.maildir.Path, f.maildir.Folder)
	case "mbox":
		s.Mbox, p.sinkPaths[name] = &f.mbox, filepath.Clean(f.mbox.Path)
	case "mda":
		f.mda.Timeout, s.MDA = f.timeout, &f.mda
		if f.mda.Recipient == "" && f.mda.usesRecipient() {
			p.recipientKey[name] = "recipient"
		}
	case "smtp", "lmtp", "imap":
		f.server.Timeout = f.timeout
		p.readServer(v, f.deferred[kind], kind, lines, &f.server)
		if kind == "imap" {
			f.imap.Server, s.IMAP = f.server, &f.imap
			if folder, ok := f.deferred["folder"]; ok {
				f.imap.Folder, _ = p.text(folder)
			}
			break
		}
		f.smtp.Server, f.smtp.LMTP, s.SMTP = f.server, kind == "lmtp", &f.smtp
		p.readAddresses(v, &f)
		if lines["to"] == 0 {
			p.recipientKey[name] = "to"
		}
	case "discard":
		s.Discard = true
		switch at := (value{line: lines["discard"], where: v.where}); {
		case !f.discard:
			p.fail(at, "write discard: true", "does not say where the mail goes")
		case !f.confirmed:
			p.fail(at, "add yes_delete: true if that is what you want", "discard deletes mail for good")
		}
	}
	return s
}

// kind returns the kind of a sink, and checks that its keys are of that kind.
func (p *parser) sinkKind(v value, lines map[string]int) string {
	kind := ""
	for _, k := range sinkKinds {
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
		for _, k := range sinkKinds {
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
func (p *parser) readFolder(v value, m *Maildir) {
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
func (p *parser) readMode(v value, m *Maildir) {
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
