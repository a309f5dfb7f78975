package takeover

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// builder builds a Config. The translators embed it.
type builder struct {
	Config
	home                    string // the user's home folder
	accountNames, sinkNames nameSet
}

// remark adds a remark about an account, or about the file if about is empty.
func (b *builder) remark(about, format string, args ...any) {
	b.Remarks = append(b.Remarks, Remark{About: about, Text: fmt.Sprintf(format, args...)})
}

// addSink adds a sink, unless there is one with the same keys, and returns its name: the
// one wanted, if that is valid and free.
func (b *builder) addSink(want string, keys ...Key) string {
	for _, s := range b.Sinks {
		if reflect.DeepEqual(s.Keys, keys) {
			return s.Name
		}
	}
	name := b.sinkNames.claim(want, "sink")
	b.Sinks = append(b.Sinks, Section{Name: name, Keys: keys})
	return name
}

// draft is an account that is being built.
type draft struct {
	*builder
	Account
}

// newDraft begins an account, with the name wanted if that is valid and free.
func (b *builder) newDraft(want string) *draft {
	d := &draft{builder: b}
	d.Name = b.accountNames.claim(want, "account")
	return d
}

func (d *draft) add(key string, value any) { d.Keys = append(d.Keys, Key{key, value}) }

// addIfSet adds a key, unless its value is empty or fails checkText.
func (d *draft) addIfSet(key, value string) {
	if value != "" && d.checkText(key, value) {
		d.add(key, value)
	}
}

// checkText reports whether values hold no control characters. If they do, it disables
// the account.
func (d *draft) checkText(name string, values ...string) bool {
	for _, value := range values {
		if strings.ContainsFunc(value, unicode.IsControl) {
			d.disable("%s holds a line break or another control character, and is left out (for a password, there is password_file)", name)
			return false
		}
	}
	return true
}

// remark adds a remark about the account.
func (d *draft) remark(format string, args ...any) { d.builder.remark(d.Name, format, args...) }

// disable disables the account, and adds a remark on what enables it.
func (d *draft) disable(format string, args ...any) {
	d.Disabled = true
	d.remark(format, args...)
}

// maxTimeout is the longest timeout of our configuration, in seconds.
const maxTimeout = 3600

// addTimeout adds a timeout, of maxTimeout at most. 0 adds none.
func (d *draft) addTimeout(seconds int) {
	if seconds > maxTimeout {
		d.add("timeout", "1h")
		d.remark("timeout can be no more than 1h")
	} else if seconds > 0 {
		d.add("timeout", formatSeconds(seconds))
	}
}

// addMDA adds and delivers to a sink that runs a command line for a shell. In the line,
// %F is the sender and, unless to is empty, %T the recipient.
func (d *draft) addMDA(line, to string) {
	line, recipientSafe := substituteRecipient(line, to)
	argv, senderSafe := translateShellLine(line)
	switch {
	case !recipientSafe || !senderSafe:
		d.disable("in its mda, part of an address could be run as a command: put that into a script of its own, which a sink runs as mda: [SCRIPT, {sender}], name the sink with deliver, then take the # away")
	case d.checkText("mda", argv...):
		name := filepath.Base(to)
		if to == "" {
			name = programName(argv)
		}
		d.add("deliver", d.addSink(name, Key{"mda", argv}))
	}
}

// finish adds the account to the configuration. It remarks on an earlier account with
// the same maildrop.
func (d *draft) finish() {
	maildrop := d.maildrop()
	for _, a := range d.Accounts {
		if maildrop.user != "" && a.maildrop() == maildrop {
			d.remark("is the maildrop of account %s, too: take one of them out, or both fetch all of it", a.Name)
			break
		}
	}
	d.Accounts = append(d.Accounts, d.Account)
}

// maildrop is what tells one maildrop from another.
type maildrop struct{ server, user, tunnel string }

func (a Account) maildrop() (m maildrop) {
	for _, k := range a.Keys {
		switch k.Name {
		case "server":
			m.server = fmt.Sprint(k.Value)
		case "user":
			m.user = fmt.Sprint(k.Value)
		case "tunnel":
			m.tunnel = fmt.Sprint(k.Value)
		}
	}
	return m
}

// hostPort returns host:port, or only the host if the port is empty or the default.
func hostPort(host, port, defaultPort string) string {
	switch {
	case port != "" && port != defaultPort:
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// formatSize returns a number of octets as the configuration has it: "10M".
func formatSize(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "M"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "k"
	}
	return strconv.FormatInt(n, 10)
}

// formatSeconds returns a number of seconds as the configuration has it: "5m".
func formatSeconds(seconds int) string {
	if seconds%60 == 0 && seconds > 60 {
		return strconv.Itoa(seconds/60) + "m"
	}
	return strconv.Itoa(seconds) + "s"
}

// escapePath returns a path as the configuration has it.
func escapePath(path string) string { return config.EscapePath(path) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// nameSet is a set of names that are in use.
type nameSet map[string]bool

// claim adds a name to the set that is valid for an account or a sink and was free, as
// similar as possible to the one wanted. fallback is for a name of which nothing is left.
func (n *nameSet) claim(want, fallback string) string {
	clean := strings.Map(func(r rune) rune {
		if config.NameHint("_"+string(r)) != "" {
			return '-'
		}
		return r
	}, want)
	clean = strings.TrimLeft(clean, "._-+@")
	for len(clean) > 60 {
		runes := []rune(clean)
		clean = string(runes[:len(runes)-1])
	}
	if clean == "" {
		clean = fallback
	}
	if *n == nil {
		*n = nameSet{}
	}
	name := clean // short enough to take a number
	for i := 2; (*n)[name]; i++ {
		name = clean + "-" + strconv.Itoa(i)
	}
	(*n)[name] = true
	return name
}
