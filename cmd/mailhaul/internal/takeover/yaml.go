package takeover

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

// keyOrder is the order of the keys in the file. Others follow.
var keyOrder = strings.Fields(`
	maildir mbox mda smtp lmtp imap
	server protocol tls to user
	password password_file password_command token_command kerberos auth
	tls_ca tls_fingerprint tls_name tls_cert tls_key tls_min
	socks5 tunnel source_ip preconnect postpoll
	deliver route filter keep max_size max_messages
	received_header every timeout pipelining`)

// defaultableKeys are the keys that become defaults if all accounts have the same value.
var defaultableKeys = strings.Fields(`
	tls protocol auth kerberos tls_ca tls_min socks5 tunnel source_ip deliver filter keep max_size max_messages
	received_header every timeout`)

// RemarkGroup is a remark on several accounts, or on the whole file if About is empty.
type RemarkGroup struct {
	About []string // the names of accounts
	Text  string
}

// String returns the remark with the names of the accounts, or some of many.
func (g RemarkGroup) String() string {
	const maxNames = 10
	if len(g.About) == 0 {
		return g.Text
	}
	return oneline.Some(g.About, maxNames) + ": " + g.Text
}

// GroupedRemarks returns the remarks in their order. Remarks on accounts that have the
// same text are one group.
func (c *Config) GroupedRemarks() []RemarkGroup {
	var all []RemarkGroup
	at := map[string]int{} // into all, by text
	for _, r := range c.Remarks {
		i, ok := at[r.Text]
		if !ok || r.About == "" {
			i = len(all)
			at[r.Text] = i
			all = append(all, RemarkGroup{Text: r.Text})
		}
		if r.About != "" {
			all[i].About = append(all[i].About, r.About)
		}
	}
	return all
}

// YAML returns the text of the configuration file. It has the remarks as comments. from
// is the name of the other fetcher.
func (c *Config) YAML(from string) string {
	const few = 3 // a remark on more accounts than that is written once, at the top
	var w yamlWriter
	w.comment("", "Made by mailhaul import "+from+". mailhaul.yaml(5) explains every option, "+
		"mailhaul config show shows it with all defaults, and mailhaul check tries it out.")
	remarks := map[string][]string{} // by account
	for _, group := range c.GroupedRemarks() {
		if n := len(group.About); n == 0 || n > few {
			w.comment("", "")
			w.comment("", group.String())
			continue
		}
		for _, name := range group.About {
			remarks[name] = append(remarks[name], group.Text)
		}
	}
	if len(c.Sinks) > 0 {
		w.line("", "\n# Where the mail goes.\nsinks:")
	}
	for _, s := range c.Sinks {
		w.line("  ", config.Scalar(s.Name)+":")
		w.keys("    ", s.Keys)
	}
	defaults, accounts := c.splitDefaults()
	if len(defaults) > 0 {
		w.line("", "\n# What applies to every account that does not say otherwise.\ndefaults:")
		w.keys("  ", defaults)
	}
	w.line("", "\n# The maildrops to poll.\naccounts:")
	for i, a := range accounts {
		if i > 0 {
			w.line("", "")
		}
		w.account(a, remarks[a.Name], from)
	}
	return w.String()
}

// splitDefaults returns the defaults, with the keys that are the same in all accounts
// added, and the accounts without those keys.
func (c *Config) splitDefaults() ([]Key, []Account) {
	defaults, accounts := slices.Clone(c.Defaults), slices.Clone(c.Accounts)
	if len(accounts) < 2 {
		return defaults, accounts
	}
	for _, name := range defaultableKeys {
		hasName := func(k Key) bool { return k.Name == name }
		i := slices.IndexFunc(accounts[0].Keys, hasName)
		if i < 0 || slices.ContainsFunc(defaults, hasName) {
			continue
		}
		key := accounts[0].Keys[i]
		lacksKey := func(a Account) bool {
			return !slices.ContainsFunc(a.Keys, func(k Key) bool { return reflect.DeepEqual(k, key) })
		}
		if slices.ContainsFunc(accounts, lacksKey) {
			continue
		}
		defaults = append(defaults, key)
		for i := range accounts {
			accounts[i].Keys = slices.DeleteFunc(slices.Clone(accounts[i].Keys), hasName)
		}
	}
	return defaults, accounts
}

// yamlWriter writes YAML for people to read.
type yamlWriter struct{ strings.Builder }

func (w *yamlWriter) line(indent, text string) {
	w.WriteString(strings.TrimRight(indent+text, " ") + "\n")
}

// account writes an account, below the remarks on it and the command that adopts what the
// other fetcher, from, has left on the server.
func (w *yamlWriter) account(a Account, remarks []string, from string) {
	for _, text := range remarks {
		w.comment("  ", text)
	}
	switch {
	case a.SeenFileMissing:
		w.comment("  ", "There is no "+oneline.Of(a.SeenFile)+". Before the first fetch, and right after a last run of "+from+":")
		w.line("  ", "# mailhaul state adopt "+a.Name)
	case a.SeenFile != "":
		w.line("  ", "# Before the first fetch: mailhaul state adopt "+a.Name+" --from "+oneline.Of(a.SeenFile))
	}
	indent := "  "
	if a.Disabled {
		indent = "  # "
	}
	w.line(indent, config.Scalar(a.Name)+":")
	w.keys(indent+"  ", a.Keys)
}

// comment writes a text as a comment, wrapped.
func (w *yamlWriter) comment(indent, text string) {
	const maxWidth = 88
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+len(word) > maxWidth-3 {
			w.line(indent, "# "+line)
			line = ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	w.line(indent, strings.TrimRight("# "+line, " "))
}

// keys writes the keys of a section in keyOrder, unknown ones at the end.
func (w *yamlWriter) keys(indent string, keys []Key) {
	rank := func(k Key) int {
		if i := slices.Index(keyOrder, k.Name); i >= 0 {
			return i
		}
		return len(keyOrder)
	}
	keys = slices.Clone(keys)
	slices.SortStableFunc(keys, func(a, b Key) int { return rank(a) - rank(b) })
	for _, k := range keys {
		name := config.Scalar(k.Name)
		switch value := k.Value.(type) {
		case []Key:
			w.line(indent, name+":")
			w.keys(indent+"  ", value)
		case []string:
			w.line(indent, name+": "+yamlList(value))
		case string:
			w.line(indent, name+": "+yamlScalar(value))
		default: // an int or a bool
			w.line(indent, fmt.Sprintf("%s: %v", name, value))
		}
	}
}

// yamlScalar returns a string in YAML. It prefers single quotes for one with double
// quotes or backslashes, such as a script, which these leave readable.
func yamlScalar(s string) string {
	needsDoubleQuotes := func(r rune) bool { return r == '\'' || !unicode.IsPrint(r) }
	if strings.ContainsAny(s, `"\`) && !strings.ContainsFunc(s, needsDoubleQuotes) {
		return "'" + s + "'"
	}
	return config.Scalar(s)
}

func yamlList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = yamlScalar(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
