package takeover

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// assembly is a Config in the making.
type builder struct {
	Config
	home                    string // the user's
	accountNames, sinkNames nameSet
}

// tell adds a remark about an account of ours, or about the file.
func (c *builder) remark(about, format string, args ...any) {
	c.Remarks = append(c.Remarks, Remark{About: about, Text: fmt.Sprintf(format, args...)})
}

// sinkFor returns the name of the sink with these keys, which it adds if there is none
// yet: named as wanted, if that is possible.
func (c *builder) addSink(want string, keys ...Key) string {
	for _, s := range c.Sinks {
		if reflect.DeepEqual(s.Keys, keys) {
			return s.Name
		}
	}
	name := c.sinkNames.claim(want, "sink")
	c.Sinks = append(c.Sinks, Section{Name: name, Keys: keys})
	return name
}

// draft is an account in the making.
type draft struct {
	*builder
	Account
}

// draft begins an account, named as wanted if that is possible.
func (c *builder) newDraft(want string) *draft {
	d := &draft{builder: c}
	d.Name = c.accountNames.claim(want, "account")
	return d
}

// add adds a key.
func (d *draft) add(name string, value any) { d.Keys = append(d.Keys, Key{name, value}) }

// some adds a key, unless its value is empty or one that the file cannot hold.
func (d *draft) addIfSet(name, value string) {
	if value != "" && d.checkText(name, value) {
		d.add(name, value)
	}
}

// fits reports whether values can stand in the file; the account is off if not.
func (d *draft) checkText(name string, values ...string) bool {
	for _, value := range values {
		if strings.ContainsFunc(value, unicode.IsControl) {
			d.disable("%s holds a line break or another control character, and is left out (for a password, there is password_file)", name)
			return false
		}
	}
	return true
}

// tell adds a remark about the account.
func (d *draft) remark(format string, args ...any) { d.builder.remark(d.Name, format, args...) }

// off adds a remark about what is to be done before the account can be used.
func (d *draft) disable(format string, args ...any) {
	d.Disabled = true
	d.remark(format, args...)
}

// timeout adds a number of seconds, as far as it may be.
func (d *draft) addTimeout(seconds int) {
	if seconds > 3600 {
		d.add("timeout", "1h")
		d.remark("timeout can be no more than 1h")
	} else if seconds > 0 {
		d.add("timeout", formatSeconds(seconds))
	}
}

// mda adds the sink that runs a line of the other's for a shell, in which %F is the
// sender and, unless to is empty, %T the recipient.
func (d *draft) addMDA(line, to string) {
	line, plain := substituteRecipient(line, to)
	argv, safe := translateShellLine(line)
	switch {
	case !plain || !safe:
		d.disable("in its mda, part of an address could be run as a command: put that into a script of its own, which a sink runs as mda: [SCRIPT, {sender}], name the sink with deliver, then take the # away")
	case d.checkText("mda", argv...):
		name := filepath.Base(to)
		if to == "" {
			name = programName(argv)
		}
		d.add("deliver", d.addSink(name, Key{"mda", argv}))
	}
}

// end ends the account.
func (d *draft) finish() {
	place := d.mailboxKey()
	for _, a := range d.Accounts {
		if other := (&draft{Account: a}).mailboxKey(); place[1] != "" && other == place {
			d.remark("is the mailbox of account %s, too: take one of them out, or both fetch all of it", a.Name)
			break
		}
	}
	d.Accounts = append(d.Accounts, d.Account)
}

// place is what tells one mailbox from another.
func (d *draft) mailboxKey() (place [3]string) {
	for _, k := range d.Keys {
		if i := slices.Index([]string{"server", "user", "tunnel"}, k.Name); i >= 0 {
			place[i] = fmt.Sprint(k.Value)
		}
	}
	return place
}

// server returns host, or host:port if the port is not the usual one.
func hostPort(host, port, usual string) string {
	switch {
	case port != "" && port != usual:
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// sizeOf returns a number of octets as a person would write it.
func formatSize(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "M"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "k"
	}
	return strconv.FormatInt(n, 10)
}

// duration returns a number of seconds as a person would write it.
func formatSeconds(seconds int) string {
	if seconds%60 == 0 && seconds > 60 {
		return strconv.Itoa(seconds/60) + "m"
	}
	return strconv.Itoa(seconds) + "s"
}

// ourPath returns the name of a file as our configuration has it, where a $ begins a
// variable.
func escapePath(name string) string { return strings.ReplaceAll(name, "$", "$$") }

// names are names that are taken.
type nameSet map[string]bool

// take returns a name that is not taken yet and that an account or a sink can have,
// as near as possible to the one wanted.
func (n *nameSet) claim(want, otherwise string) string {
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
		clean = otherwise
	}
	if *n == nil {
		*n = nameSet{}
	}
	name := clean // and there is room for a number
	for i := 2; (*n)[name]; i++ {
		name = clean + "-" + strconv.Itoa(i)
	}
	(*n)[name] = true
	return name
}
