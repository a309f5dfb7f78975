package manual

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// Exit is an exit code with its meaning.
type Exit struct{ Code, Meaning string }

// Command returns mailhaul(1), from the help of the commands of app.
func Command(app *cli.App, exits []Exit) string {
	p := newPage(app.Name, 1, app.Usage)
	all := commandsBelow(app.Commands, "")
	p.synopsis(all)
	p.line(".Sh DESCRIPTION")
	p.line(".Nm")
	p.text("fetches mail from POP3 servers, many accounts at once, and deletes a message from its server only when it is safe at its destination. " +
		"Accounts, and where their mail goes, are configured in a file:")
	p.line(".Xr mailhaul.yaml 5 .")
	p.line("Options may come before or after the names of accounts.")
	p.line("Those of one letter can be joined: of")
	p.line(".Cm fetch ,")
	p.line(".Fl nq")
	p.line("is")
	p.line(".Fl n q .")
	p.commands(all)
	p.line(".Sh SIGNALS")
	p.text("At the first SIGINT, SIGTERM or SIGHUP, `mailhaul fetch` delivers what is on its way, deletes what has landed, and ends; " +
		"at the second it hangs up, and the next run continues from there. " +
		"Commands that only look end at the first. " +
		"If a new OAuth 2.0 token is on its way at that moment, each of them waits for it, for a minute at most: without it somebody might have to log in again. " +
		"SIGHUP is ignored under nohup(1). What `mailhaul daemon` does is described above. " +
		"Neither loses mail when it is killed.")
	p.table("ENVIRONMENT", "Ev", environment)
	p.table("FILES", "Pa", files)
	p.exitStatus(exits)
	p.line(".Sh EXAMPLES")
	p.text("From cron(8), every five minutes; it prints only what needs attention:")
	p.literal([]string{"*/5 * * * *  /usr/local/bin/mailhaul fetch -q"})
	p.text("To start with a full maildrop, and fetch only what arrives from now on:")
	p.literal([]string{"mailhaul state adopt work"})
	p.line(".Sh SEE ALSO")
	p.line(".Xr mailhaul.yaml 5")
	p.line(".Sh STANDARDS")
	p.text("POP3: RFC 1939, 2449 (CAPA), 2595 (STLS), 5034 (AUTH), 8314 (implicit TLS).")
	return p.String()
}

// synopsis writes the section that lists the commands with their arguments.
func (p *page) synopsis(all []command) {
	p.line(".Sh SYNOPSIS")
	for _, c := range all {
		if len(c.Subcommands) > 0 {
			continue
		}
		p.line(".Nm")
		p.line(".Cm %s", c.path)
		p.line(".Op Ar option ...")
		for place := range strings.FieldsSeq(c.ArgsUsage) {
			p.argument(place)
		}
	}
	p.line(".Nm")
	p.line(".Fl \\-version")
}

// commands writes the section that describes the commands and their options.
func (p *page) commands(all []command) {
	p.line(".Sh COMMANDS")
	for _, c := range all {
		p.line(".Ss %s", escape(c.path))
		p.text(toSentence(c.Usage))
		if c.Description != "" {
			p.line(".Pp")
			p.paragraphs(strings.Split(c.Description, "\n"))
		}
		p.options(c.Flags)
	}
}

// exitStatus writes the section on the exit codes.
func (p *page) exitStatus(exits []Exit) {
	p.line(".Sh EXIT STATUS")
	p.line(".Bl -tag -width Ds -compact")
	for _, e := range exits {
		p.line(".It %s", e.Code)
		p.text(e.Meaning)
	}
	p.line(".El")
	p.line(".Pp")
	p.text("If accounts end differently, the first of 74, 77, 75, 65 and 0 that applies is the exit code.")
}

var environment = [][2]string{
	{"MAILHAUL_CONFIG", "The configuration, unless `--config` names one."},
	{"XDG_CONFIG_HOME", "The folder in which the configuration is looked for next. Default: ~/.config"},
	{"XDG_STATE_HOME", "The folder in which mailhaul remembers what it has fetched, unless the configuration says where. Default: ~/.local/state"},
	{"HTTPS_PROXY", "A proxy for the providers of OAuth 2.0, unless the configuration names one."},
	{"KRB5CCNAME", "Where the Kerberos tickets of kinit are."},
	{"KRB5_CONFIG", "The Kerberos configuration. Default: /etc/krb5.conf"},
	{"GOMAXPROCS", "How many processors may be used at once. Default: few, since a poll hardly needs a second one; more for many polls"},
	{"GOGC", "How far the memory in use may grow, in percent, before garbage is collected. Default: 100, or 50 with eight polls at once or more"},
	{"NO_COLOR", "If it is not empty, no colours are shown on terminals."},
	{"TMPDIR", "The folder for files that nobody needs once the program has ended."},
}

var files = [][2]string{
	{"~/.config/mailhaul/config.yaml", "The configuration. If it holds a password, only its owner may read it."},
	{"~/.local/state/mailhaul/mailhaul.db", "What was fetched. Without it, mail that is still on a server is fetched again. Keep it on a local disk, and in your backup."},
	{"~/.local/state/mailhaul/leases", "Locks, so that no two runs poll the same account."},
	{"~/.local/state/mailhaul/spool", "Mail on its way to an mbox, a program or a mail server."},
	{"~/.local/state/mailhaul/tls", "TLS sessions for polls to resume. They can be removed at any time; leave them out of your backup. " +
		"Whoever can read one and is on the way to its server can pose as that server while the session lasts."},
	{"~/.local/state/mailhaul/oauth", "Access granted through `mailhaul login`. Whoever can read it can read the mail."},
}

// table writes a section with a list of names and their explanations.
func (p *page) table(section, macro string, rows [][2]string) {
	p.line(".Sh %s", section)
	p.line(".Bl -tag -width Ds")
	for _, r := range rows {
		p.line(".It %s %s", macro, escape(r[0]))
		p.text(r[1])
	}
	p.line(".El")
}

// argument writes an argument of a command, given as in its help: [UID…].
func (p *page) argument(place string) {
	name, optional := strings.CutPrefix(place, "[")
	name = strings.TrimSuffix(name, "]")
	name, more := strings.CutSuffix(name, "…")
	macro := ".Ar " + escape(name)
	if optional {
		macro = ".Op Ar " + escape(name)
	}
	if more {
		macro += " ..."
	}
	p.line("%s", macro)
}

// options writes the options of a command as a list.
func (p *page) options(flags []cli.Flag) {
	open := false
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if visible, can := f.(cli.VisibleFlag); !ok || can && !visible.IsVisible() {
			continue
		}
		if !open {
			p.line(".Bl -tag -width Ds")
			open = true
		}
		value := ""
		if m := code.FindStringSubmatch(doc.GetUsage()); m != nil && doc.TakesValue() {
			value = " Ar " + escape(m[1])
		}
		var names []string
		for _, name := range f.Names() {
			if len(name) > 1 {
				name = `\-` + escape(name)
			}
			names = append(names, "Fl "+name+value)
		}
		p.line(".It %s", strings.Join(names, " , "))
		p.text(toSentence(code.ReplaceAllString(doc.GetUsage(), "$1")))
		if text := strings.Trim(doc.GetDefaultText(), `"`); text != "" && doc.TakesValue() {
			p.text("Default: " + text)
		}
	}
	if open {
		p.line(".El")
	}
}

// toSentence makes a sentence of a line of help. If it begins with a value, that keeps
// its case.
func toSentence(s string) string {
	if word, _, _ := strings.Cut(s, " "); word != "default:" && strings.ContainsAny(word, ",:") {
		return s + "."
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:] + "."
}

// command is a command with its full name, such as "state list".
type command struct {
	*cli.Command
	path string
}

// commandsBelow returns, depth first, the visible commands and subcommands whose parent is
// above, but not groups of subcommands without a description.
func commandsBelow(commands []*cli.Command, above string) (all []command) {
	for _, c := range commands {
		switch path := strings.TrimSpace(above + " " + c.Name); {
		case c.Hidden:
		case len(c.Subcommands) > 0:
			if c.Description != "" {
				all = append(all, command{c, path})
			}
			all = append(all, commandsBelow(c.Subcommands, path)...)
		default:
			all = append(all, command{c, path})
		}
	}
	return all
}
