package takeover

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
)

// order is that of the keys in config.example.yaml.
var keyOrder = strings.Fields(`
	maildir mbox mda smtp lmtp imap
	server protocol tls to recipient user
	password password_file password_env password_command token_command kerberos auth
	tls_ca tls_fingerprint tls_name tls_cert tls_key tls_min
	socks5 tunnel source_ip preconnect postpoll
	deliver filter refused quarantine keep max_size max_messages
	received_header delivered_to return_path every timeout time_limit pipelining`)

// shareable are the keys of which defaults have what all accounts say alike.
var defaultableKeys = strings.Fields(`
	tls protocol auth kerberos tls_ca tls_min socks5 tunnel source_ip deliver filter keep max_size max_messages
	received_header return_path every timeout`)

// Told is a remark, and all that it is about: the names of accounts, or none if it is
// about the file as a whole.
type RemarkGroup struct {
	About []string
	Text  string
}

// String returns the remark with the names of some of the accounts.
func (t RemarkGroup) String() string {
	const most = 10
	if len(t.About) == 0 {
		return t.Text
	}
	return oneline.Some(t.About, most) + ": " + t.Text
}

// Told returns the remarks, each once, in the order in which they were made.
func (c *Config) GroupedRemarks() []RemarkGroup {
	var all []RemarkGroup
	at := map[string]int{}
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

// YAML returns the configuration file, which was made from that of a fetcher of that name.
// Remarks are comments in it.
func (c *Config) YAML(from string) string {
	const few = 3 // accounts, which have a remark each; otherwise it is at the top
	var w yamlWriter
	w.comment("", "Made by mailhaul import "+from+". mailhaul.yaml(5) explains every option, "+
		"mailhaul config show shows it with all defaults, and mailhaul check tries it out.")
	remarks := map[string][]string{}
	for _, told := range c.GroupedRemarks() {
		if n := len(told.About); n == 0 || n > few {
			w.comment("", "")
			w.comment("", told.String())
			continue
		}
		for _, name := range told.About {
			remarks[name] = append(remarks[name], told.Text)
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
		for _, text := range remarks[a.Name] {
			w.comment("  ", text)
		}
		if a.SeenFileMissing {
			w.comment("  ", "There is no "+oneline.Of(a.SeenFile)+". Before the first fetch, and right after a last run of "+from+":")
			w.line("  ", "# mailhaul state adopt "+a.Name)
		} else if a.SeenFile != "" {
			w.line("  ", "# Before the first fetch: mailhaul state adopt "+a.Name+" --from "+oneline.Of(a.SeenFile))
		}
		indent := "  "
		if a.Disabled {
			indent = "  # "
		}
		w.line(indent, config.Scalar(a.Name)+":")
		w.keys(indent+"  ", a.Keys)
	}
	return w.String()
}

// shared returns the defaults, with what all accounts say alike, and the accounts
// without it.
func (c *Config) splitDefaults() ([]Key, []Account) {
	defaults, accounts := slices.Clone(c.Defaults), slices.Clone(c.Accounts)
	if len(accounts) < 2 {
		return defaults, accounts
	}
	for _, name := range defaultableKeys {
		is := func(k Key) bool { return k.Name == name }
		first := slices.IndexFunc(accounts[0].Keys, is)
		if first < 0 || slices.ContainsFunc(defaults, is) {
			continue
		}
		said := accounts[0].Keys[first]
		if slices.ContainsFunc(accounts, func(a Account) bool {
			return !slices.ContainsFunc(a.Keys, func(k Key) bool { return equalKeys(k, said) })
		}) {
			continue
		}
		defaults = append(defaults, said)
		for i := range accounts {
			accounts[i].Keys = slices.DeleteFunc(slices.Clone(accounts[i].Keys), is)
		}
	}
	return defaults, accounts
}

// same reports whether two keys say the same.
func equalKeys(a, b Key) bool { return fmt.Sprintf("%#v", a) == fmt.Sprintf("%#v", b) }

// writer writes YAML for people.
type yamlWriter struct{ strings.Builder }

func (w *yamlWriter) line(indent, text string) {
	w.WriteString(strings.TrimRight(indent+text, " ") + "\n")
}

// comment writes a text in lines of a readable length.
func (w *yamlWriter) comment(indent, text string) {
	const most = 88
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+len(word) > most-3 {
			w.line(indent, "# "+line)
			line = ""
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	w.line(indent, strings.TrimRight("# "+line, " "))
}

// keys writes the keys of a section in the order of the example.
func (w *yamlWriter) keys(indent string, keys []Key) {
	place := func(k Key) int {
		if i := slices.Index(keyOrder, k.Name); i >= 0 {
			return i
		}
		return len(keyOrder)
	}
	keys = slices.Clone(keys)
	slices.SortStableFunc(keys, func(a, b Key) int { return place(a) - place(b) })
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

// scalar writes a text in YAML, a script in the quotes that leave it readable.
func yamlScalar(s string) string {
	odd := func(r rune) bool { return r == '\'' || !unicode.IsPrint(r) }
	if strings.ContainsAny(s, `"\`) && !strings.ContainsFunc(s, odd) {
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
