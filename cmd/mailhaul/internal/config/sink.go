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

// sinkSettings holds the options of a sink until its kind is known, which may be set by
// the last of its keys.
type sinkSettings struct {
	maildir Maildir
	mbox    Mbox
	mda     MDA
	smtp    SMTP
	imap    IMAP
	discard bool

	server    Server        // of smtp, lmtp and imap
	timeout   time.Duration // of those and mda
	confirmed bool          // yes_delete of discard
	// deferred holds the values whose meaning depends on the kind, by key.
	deferred map[string]value
}

// deferValue returns a reader that keeps the value of key until the kind is known.
func deferValue(key string) func(*parser, value, *sinkSettings) {
	return func(_ *parser, v value, s *sinkSettings) { s.deferred[key] = v }
}

// sinkKind is a kind of sink, with the keys that it has.
type sinkKind struct {
	key     string // sets the kind, and says where the mail goes
	options []string
}

// sinkKinds are all kinds of sinks.
var sinkKinds = []sinkKind{
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
		// Hints may list the names, so that one that must not be shown is left out.
		if named || e.key != "" && quoteKey(e.key) == `"`+e.key+`"` {
			p.sinkNames, p.sinkNodes[e.key] = append(p.sinkNames, e.key), e.value.node
		}
		out = append(out, p.newSink(at, e.key))
	}
	return out
}

// newSink reads one sink. It returns even a sink with mistakes, so that the accounts
// that deliver to it are not reported, too.
func (p *parser) newSink(v value, name string) Sink {
	f := sinkSettings{maildir: Maildir{Mode: 0o600}, mbox: Mbox{LockTimeout: defaultLockTimeout}, deferred: map[string]value{}}
	lines := readMapping(p, v, sinkReaders, &f)
	s := Sink{Name: name, Line: v.line}
	kind := p.kindOf(v, lines)
	switch kind {
	case "":
		p.fail(v, strings.TrimPrefix(v.where, "sink ")+": { maildir: ~/Maildir }, or mbox, mda, smtp, lmtp, imap:", "does not say where the mail goes")
	case "maildir":
		if folder, ok := f.deferred["folder"]; ok {
			p.readFolder(folder, &f.maildir)
		}
		s.Maildir = &f.maildir
		p.sinkPaths[name] = filepath.Join(f.maildir.Path, f.maildir.Folder)
	case "mbox":
		s.Mbox = &f.mbox
		p.sinkPaths[name] = filepath.Clean(f.mbox.Path)
	case "mda":
		f.mda.Timeout = f.timeout
		s.MDA = &f.mda
		if f.mda.Recipient == "" && f.mda.usesRecipient() {
			p.recipientKey[name] = "recipient"
		}
	case "smtp", "lmtp":
		f.smtp.Server = p.readServer(v, kind, lines, &f)
		f.smtp.LMTP = kind == "lmtp"
		s.SMTP = &f.smtp
		p.readAddresses(v, &f)
		if !lines.has("to") {
			p.recipientKey[name] = "to"
		}
	case "imap":
		f.imap.Server = p.readServer(v, kind, lines, &f)
		s.IMAP = &f.imap
		if folder, ok := f.deferred["folder"]; ok {
			f.imap.Folder, _ = p.text(folder)
		}
	case "discard":
		s.Discard = true
		if at := v.at(lines["discard"]); !f.discard {
			p.fail(at, "write discard: true", "does not say where the mail goes")
		} else if !f.confirmed {
			p.fail(at, "add yes_delete: true if that is what you want", "discard deletes mail for good")
		}
	}
	return s
}

// kindOf returns the kind of a sink, "" if there is none, and checks that its other
// keys belong to that kind.
func (p *parser) kindOf(v value, lines keyLines) string {
	kind := ""
	for _, k := range sinkKinds {
		switch {
		case !lines.has(k.key):
		case kind != "":
			p.fail(v.at(lines[k.key]), "make it two sinks", "is both %s and %s", kind, k.key)
		default:
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
			p.fail(v.at(lines[option]), "", "%s is an option of %s, not of %s", option, strings.Join(of, ", "), kind)
		}
	}
	return kind
}

// readFolder reads a Maildir++ folder: .Sub or .Sub.Folder.
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

// readMode reads a file mode as chmod does: 0600, 600 and 0o600 are the same.
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
