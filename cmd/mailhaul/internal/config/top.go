package config

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// topSettings is a Config with the parts of the file that are read only after all others.
type topSettings struct {
	Config
	sinks, defaults, accounts, oauth *value
}

var topReaders = keyReaders[topSettings]{
	"state":        func(p *parser, v value, f *topSettings) { f.State, _ = p.path(v) },
	"parallel":     func(p *parser, v value, f *topSettings) { p.number(v, 1, 1000, &f.Parallel) },
	"per_host":     func(p *parser, v value, f *topSettings) { p.number(v, 1, 1000, &f.PerHost) },
	"metrics":      func(p *parser, v value, f *topSettings) { p.readListenAddr(v, &f.Metrics) },
	"metrics_file": func(p *parser, v value, f *topSettings) { p.readMetricsFile(v, &f.MetricsFile) },
	"notify":       func(p *parser, v value, f *topSettings) { f.Notify = p.readCommand(v) },
	"grace":        func(p *parser, v value, f *topSettings) { p.duration(v, time.Second, time.Hour, &f.Grace) },
	"oauth":        func(p *parser, v value, f *topSettings) { p.oauthClients, f.oauth = p.readOAuthClients(v), &v },
	"sinks":        func(_ *parser, v value, f *topSettings) { f.sinks = &v },
	"defaults":     func(_ *parser, v value, f *topSettings) { f.defaults = &v },
	"accounts":     func(_ *parser, v value, f *topSettings) { f.accounts = &v },
}

// readTop reads the whole file. The order of its keys does not matter: the sinks are read
// before the defaults and the accounts, which refer to them.
func (p *parser) readTop(v value, c *Config) {
	f := topSettings{Config: *c}
	lines := readMapping(p, v, topReaders, &f)
	if !lines.has("state") {
		f.State = p.defaultState()
	}
	if f.sinks != nil {
		f.Sinks = p.readSinks(*f.sinks)
	}
	p.checkPresent(f.sinks, lines["sinks"], "sinks", "{ home: { maildir: ~/Maildir } }")

	defaults := Account{Protocol: POP3, Security: Security{TLS: TLSImplicit}, ReceivedHeader: true, lines: keyLines{}}
	if f.defaults != nil {
		defaults.lines = p.readAccount(*f.defaults, &defaults)
	}
	if f.accounts != nil {
		defaultsContent, oauthContent := f.defaults.decodeOnce(), f.oauth.decodeOnce()
		for _, e := range p.entries(*f.accounts) {
			at := value{node: e.value.node, line: e.line, where: "account " + e.key}
			if !p.checkName(at, e.key) {
				at.where = "account " + quoteKey(e.key)
			}
			a := p.newAccount(at, e.key, defaults)
			a.source = accountSource{at.node, defaultsContent, oauthContent, p.sinkNodes}
			f.Accounts = append(f.Accounts, a)
		}
	}
	p.checkPresent(f.accounts, lines["accounts"], "accounts", "{ work: { server: pop.example.com, user: me, password_command: pass mail } }")
	*c = f.Config
}

// readMetricsFile reads the path of a file for the textfile collector of node_exporter.
func (p *parser) readMetricsFile(v value, into *string) {
	s, ok := p.path(v)
	if ok && filepath.Ext(s) != ".prom" {
		p.fail(v, "node_exporter reads only files that end in .prom", "%s cannot be used", quote(s))
		return
	}
	*into = s
}

// readListenAddr reads an address to listen at, host:port.
func (p *parser) readListenAddr(v value, into *string) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		p.fail(v, "write host:port, such as 127.0.0.1:9110", "%s is not an address to listen at", quote(s))
		return
	}
	*into = s
}

// checkPresent checks that the part v of the file, whose key is on the given line, is
// neither missing nor empty. A part without a value is misspelt, which is reported already.
func (p *parser) checkPresent(v *value, line int, key, example string) {
	example = key + ": " + example
	switch {
	case line == 0:
		p.fail(value{}, example, "%s is missing", key)
	case v != nil && (isNull(v.node) || v.node.Kind == yaml.MappingNode && len(v.node.Content) == 0):
		p.fail(value{line: line}, example, "%s is empty", key)
	}
}

// checkName checks the name of an account, a sink or an OAuth client.
func (p *parser) checkName(v value, name string) bool {
	hint := NameHint(name)
	if hint != "" {
		v.where = ""
		p.fail(v, hint, "%s cannot be a name", quoteKey(name))
	}
	return hint == ""
}

// NameHint returns "" if an account or a sink may have the name, otherwise what to do
// about it. Names are used in log lines, on command lines and in the state.
func NameHint(name string) string {
	bad := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-+@", r)
	}
	switch {
	case name == "" || len(name) > 64 || strings.ContainsFunc(name, bad):
		return "use up to 64 letters, digits and . _ - + @"
	case strings.ContainsAny(name[:1], ".-+@"):
		return "start it with a letter, a digit or _"
	}
	return ""
}
