package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailhaul/mailhaul/fetch"
)

// Mpop translates the configuration of mpop at path or, if that is empty, at ~/.mpoprc or
// else $XDG_CONFIG_HOME/mpop/config. home is the user's home folder. The error names the
// file and, for what mpop would refuse, the line or the account.
func Mpop(path, home string) (*Config, error) {
	if path == "" {
		path = filepath.Join(home, ".mpoprc")
		xdg := filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "mpop", "config")
		if !exists(path) && exists(xdg) {
			path = xdg
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &mpop{
		builder:  builder{home: home},
		defaults: &mpopAccount{commands: map[string]string{}, own: map[string]string{}},
		byName:   map[string]*mpopAccount{},
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if err := m.parseLine(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), n); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
		}
	}
	for i, a := range m.accounts {
		if err := m.translateAccount(a, m.accounts[:i]); err != nil {
			return nil, fmt.Errorf("%s: account %s: %w", path, a.name, err)
		}
	}
	return &m.Config, nil
}

type mpop struct {
	builder
	defaults, current *mpopAccount
	accounts          []*mpopAccount
	byName            map[string]*mpopAccount
}

// mpopAccount is an account of mpop.
type mpopAccount struct {
	name      string
	commands  map[string]string // the argument of each command
	own       map[string]string // commands without the defaults: other accounts inherit these
	evalLines []int             // the lines with eval
}

// parseLine parses line n: a command, and an argument that may be quoted.
func (m *mpop) parseLine(line string, n int) error {
	line = strings.Trim(line, " \t")
	if line == "" || line[0] == '#' {
		return nil
	}
	if !utf8.ValidString(line) || strings.Contains(line, "\x00") {
		return errors.New("is not UTF-8: iconv makes it so")
	}
	command, arg := splitCommand(line)
	check := mpopArgChecks[command]
	switch {
	case command == "eval" && arg == "":
		return errors.New("command eval needs an argument")
	case command == "eval" && m.current == nil:
		m.remark("", mpopEvalRemark, n)
	case command == "eval":
		m.current.evalLines = append(m.current.evalLines, n)
	case command == "defaults" && arg != "":
		return errors.New("command defaults does not take an argument")
	case command == "defaults":
		m.current = m.defaults
	case command == "account":
		return m.beginAccount(arg)
	case m.current == nil:
		return errors.New("the first command must be account or defaults")
	case check == nil:
		return fmt.Errorf("unknown command %s", command)
	default:
		value, ok := check(arg)
		if !ok && arg == "" {
			return fmt.Errorf("command %s needs an argument", command)
		} else if !ok {
			return fmt.Errorf("invalid argument %s for command %s", arg, command)
		}
		m.current.commands[command], m.current.own[command] = value, value
	}
	return nil
}

// beginAccount begins an account. arg is its name or "name : base, base".
func (m *mpop) beginAccount(arg string) error {
	name, bases, inherits := strings.Cut(arg, ":")
	if inherits {
		name = unquote(name)
	}
	a := &mpopAccount{name: name, commands: maps.Clone(m.defaults.commands), own: map[string]string{}, evalLines: slices.Clone(m.defaults.evalLines)}
	for base := range strings.SplitSeq(bases, ",") {
		b := m.byName[unquote(base)]
		if b == nil && inherits {
			return fmt.Errorf("account %s is not (yet) defined", unquote(base))
		} else if inherits {
			maps.Copy(a.commands, b.own)
			maps.Copy(a.own, b.own)
			a.evalLines = append(a.evalLines, b.evalLines...)
		}
	}
	switch {
	case name == "":
		return errors.New("missing account name")
	case strings.Contains(name, ","):
		return errors.New("an account name must not contain colons or commas")
	case m.byName[name] != nil:
		return fmt.Errorf("account %s was already defined", name)
	}
	slices.Sort(a.evalLines)
	a.evalLines = slices.Compact(a.evalLines)
	m.accounts, m.byName[name], m.current = append(m.accounts, a), a, a
	return nil
}

// splitCommand splits a line into its first word and the argument.
func splitCommand(line string) (word, arg string) {
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], unquote(line[i:])
	}
	return line, ""
}

// unquote removes the blanks around an argument, and one pair of quotes. mpop knows no
// escapes.
func unquote(s string) string {
	s = strings.Trim(s, " \t")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// mpopArgChecks has a function for each command, which reports whether mpop accepts the
// argument and returns it normalized.
var mpopArgChecks = map[string]func(string) (string, bool){
	"host": nonEmptyArg, "port": numberArg(1<<16 - 1), "source_ip": anyArg, "proxy_host": anyArg,
	"proxy_port": orWord("", numberArg(1<<16-1)), "socket": anyArg,
	"timeout": orWord("off", numberArg(1<<31-1)), "pipelining": orWord("auto", onOffArg),
	"user": anyArg, "password": anyArg, "passwordeval": anyArg, "ntlmdomain": anyArg,
	"auth": func(s string) (string, bool) {
		if s == "" || s == "on" {
			return "", true
		}
		return s, s == "ntlm" || slices.Contains(fetch.AuthNames, s)
	},
	"tls": onOffArg, "tls_starttls": onOffArg, "tls_certcheck": onOffArg,
	"tls_key_file": anyArg, "tls_cert_file": anyArg, "tls_trust_file": anyArg, "tls_crl_file": anyArg,
	"tls_priorities": anyArg, "tls_min_dh_prime_bits": orWord("", numberArg(1<<31-1)),
	"tls_host_override": anyArg, "tls_force_sslv3": anyArg,
	"tls_fingerprint": func(s string) (string, bool) {
		s = strings.ReplaceAll(s, " ", ":")
		return s, s == "" || mpopFingerprint.MatchString(s)
	},
	"delivery": func(s string) (string, bool) {
		method, arg := splitCommand(s)
		return method + " " + arg, arg != "" && slices.Contains([]string{"mda", "maildir", "mbox", "exchange"}, method)
	},
	"uidls_file": nonEmptyArg, "only_new": onOffArg, "received_header": onOffArg, "filter": anyArg,
	"keep": func(s string) (string, bool) {
		switch on, ok := onOffArg(s); {
		case ok:
			return on, true
		case strings.Trim(s, "0dhms") == "":
			return "off", mpopDuration.MatchString(s)
		}
		return s, mpopDuration.MatchString(s)
	},
	"killsize": orWord("off", sizeArg), "skipsize": orWord("off", sizeArg),
}

var (
	mpopFingerprint = regexp.MustCompile(`^([0-9a-fA-F]{2}:){31}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}:){19}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{2}:){15}[0-9a-fA-F]{2}$`)
	mpopDuration    = regexp.MustCompile(`^([0-9]+[dhms])+$`)
)

func anyArg(s string) (string, bool)      { return s, true }
func nonEmptyArg(s string) (string, bool) { return s, s != "" }

func onOffArg(s string) (string, bool) {
	return cmp.Or(s, "on"), s == "" || s == "on" || s == "off"
}

// orWord returns a check that also accepts a word.
func orWord(word string, check func(string) (string, bool)) func(string) (string, bool) {
	return func(s string) (string, bool) {
		if s == word {
			return s, true
		}
		return check(s)
	}
}

// numberArg returns a check for a number from 1 to limit.
func numberArg(limit int64) func(string) (string, bool) {
	return func(s string) (string, bool) {
		n, err := strconv.ParseInt(s, 0, 64) // also hexadecimal and octal
		return strconv.FormatInt(n, 10), err == nil && n > 0 && n <= limit
	}
}

// sizeArg checks a size, such as 1000, 10k or 10m, and returns it in octets.
func sizeArg(s string) (string, bool) {
	digits := strings.TrimRight(s, "km")
	n, err := strconv.ParseInt(digits, 0, 64)
	shift, ok := map[string]uint{"": 0, "k": 10, "m": 20}[s[len(digits):]]
	return strconv.FormatInt(n<<shift, 10), ok && err == nil && n >= 0 && n < 1<<40
}

// translateAccount translates an account. It leaves out one that lacks what mpop needs,
// which is there for others to inherit from, and one that is the same as an earlier one.
func (m *mpop) translateAccount(a *mpopAccount, earlier []*mpopAccount) error {
	commands := a.commands
	for _, e := range earlier {
		if maps.Equal(e.commands, commands) && slices.Equal(e.evalLines, a.evalLines) {
			m.remark("", "account %s is account %s once more, and is left out", a.name, e.name)
			return nil
		}
	}
	for _, command := range []string{"host", "delivery"} {
		if commands[command] == "" && !(command == "host" && commands["socket"] != "") {
			m.remark("", "account %s has no %s, without which mpop does not poll it: it is left out", a.name, command)
			return nil
		}
	}
	trust, trustSet := commands["tls_trust_file"]
	switch {
	case (commands["tls_key_file"] == "") != (commands["tls_cert_file"] == ""):
		return errors.New("tls_key_file and tls_cert_file need each other")
	case commands["tls"] == "on" && trustSet && trust == "" && commands["tls_fingerprint"] == "" && commands["tls_certcheck"] != "off":
		return errors.New("tls needs tls_trust_file or tls_fingerprint, or tls_certcheck off")
	}
	d := m.newDraft(a.name)
	if d.Name != a.name {
		d.remark("is called %q there", a.name)
	}
	for _, n := range a.evalLines {
		d.remark(mpopEvalRemark, n)
	}
	m.connection(d, commands)
	m.delivery(d, commands)
	m.policy(d, commands)
	d.finish()
	return nil
}

const mpopEvalRemark = "line %d: eval runs a command, and nothing is run here: add by hand what it prints"

// connection translates the way to the server, TLS and the login.
func (m *mpop) connection(d *draft, commands map[string]string) {
	tls, defaultPort := "none", "110"
	if commands["tls"] == "on" && commands["tls_starttls"] == "off" {
		tls, defaultPort = "implicit", "995"
	} else if commands["tls"] == "on" {
		tls = "starttls"
	}
	host := cmp.Or(commands["host"], commands["tls_host_override"], "localhost")
	d.add("server", hostPort(host, commands["port"], defaultPort))
	if tls != "implicit" { // the default
		d.add("tls", tls)
	}
	m.login(d, commands, tls)
	if tls != "none" {
		m.trust(d, commands)
	}
	if commands["socket"] != "" {
		d.add("tunnel", []string{"nc", "-U", commands["socket"]})
		d.remark("the tunnel to the socket needs the program nc, one that knows -U")
		return
	}
	if proxy := commands["proxy_host"]; proxy != "" {
		d.add("socks5", hostPort(proxy, commands["proxy_port"], "1080"))
	}
	d.addIfSet("source_ip", commands["source_ip"])
}

// login translates the user, the password and the mechanism. tls is ours.
func (m *mpop) login(d *draft, commands map[string]string, tls string) {
	d.addIfSet("user", commands["user"])
	if commands["user"] == "" {
		d.disable("add user: there is none")
	}
	password, command, auth := commands["password"], commands["passwordeval"], commands["auth"]
	token := auth == "oauthbearer" || auth == "xoauth2"
	switch {
	case auth == "gssapi":
		d.add("kerberos", true)
	case auth == "external" && tls != "none" && commands["tls_cert_file"] != "":
	case auth == "external":
		d.disable("add tls_cert and tls_key: auth external rests on a certificate, and on TLS")
	case token && password == "" && command != "":
		d.addIfSet("token_command", command)
	case token:
		d.disable("add token_command, or oauth (see mailhaul help login): a token as it stands in the file soon expires")
	case password != "":
		d.addIfSet("password", password)
	case command != "":
		d.addIfSet("password_command", command)
	default:
		d.disable("add a password: mpop has it from the keyring, ~/.netrc or you; for the keyring, password_command: [secret-tool, lookup, host, %s, service, pop3, user, %s]",
			commands["host"], commands["user"])
	}
	switch {
	case auth == "ntlm":
		d.remark("auth ntlm has no counterpart: another mechanism is used that the server offers")
	case auth != "":
		d.add("auth", auth)
	case tls == "none":
		// Without TLS, mpop chooses no other mechanisms by itself.
		d.add("auth", []string{"scram-sha-256", "scram-sha-1"})
	}
	if tls == "none" {
		d.remark("tls is off: everybody on the way can read the mail, and change it. If the server has TLS, take out tls: none, and auth")
	}
}

// trust translates the certificates: those that are trusted, and that of the client.
func (m *mpop) trust(d *draft, commands map[string]string) {
	pin := commands["tls_fingerprint"]
	switch {
	case commands["tls_certcheck"] == "off":
		d.remark("tls_certcheck off has no counterpart: for a certificate that is not trusted, mailhaul check prints a tls_fingerprint to add")
	case len(pin) == 95:
		d.add("tls_fingerprint", pin)
	case pin != "":
		d.remark("tls_fingerprint is not by SHA-256, and is left out: mailhaul check prints one that is")
	case commands["tls_trust_file"] != "system":
		d.addIfSet("tls_ca", escapePath(m.filePath(d, "tls_trust_file", commands["tls_trust_file"])))
	}
	d.addIfSet("tls_name", commands["tls_host_override"])
	if strings.HasPrefix(commands["tls_cert_file"]+commands["tls_key_file"], "pkcs11:") {
		d.remark("tls_cert_file on a device has no counterpart: tls_cert and tls_key take files")
	} else {
		d.addIfSet("tls_cert", escapePath(m.filePath(d, "tls_cert_file", commands["tls_cert_file"])))
		d.addIfSet("tls_key", escapePath(m.filePath(d, "tls_key_file", commands["tls_key_file"])))
	}
	if commands["tls_crl_file"] != "" {
		d.remark("tls_crl_file has no counterpart: revoked certificates are not looked up")
	}
	for _, command := range []string{"tls_priorities", "tls_min_dh_prime_bits"} {
		if commands[command] != "" {
			d.remark("%s has no counterpart: if an old server needs it, try tls_min: 1.0", command)
		}
	}
}

// delivery translates where the mail goes.
func (m *mpop) delivery(d *draft, commands map[string]string) {
	method, arg, _ := strings.Cut(commands["delivery"], " ")
	switch method {
	case "mda":
		d.addMDA(arg, "")
	case "exchange":
		d.disable("delivery exchange has no counterpart: add a sink, and deliver")
	default:
		path := m.filePath(d, "delivery", arg)
		if d.checkText("delivery", path) {
			d.add("deliver", d.addSink(filepath.Base(path), Key{method, escapePath(path)}))
		}
	}
}

// policy translates which messages are fetched, how long they stay, and how they are
// fetched.
func (m *mpop) policy(d *draft, commands map[string]string) {
	switch keep := commands["keep"]; keep {
	case "", "off":
		d.add("keep", false)
	case "on":
		d.add("keep", "forever")
	default:
		d.add("keep", keep)
	}
	if commands["keep"] != "" && commands["keep"] != "off" {
		file := m.expandTilde(cmp.Or(commands["uidls_file"], "~/.mpop_uidls/%U_at_%H"), true)
		d.SeenFile = strings.ReplaceAll(strings.ReplaceAll(file, "%U", commands["user"]), "%H", cmp.Or(commands["host"], commands["socket"]))
	}
	if commands["filter"] != "" {
		d.remark("filter has no counterpart, and is left out: it sees the header only, and filter here the whole message, which it must print")
	}
	if commands["only_new"] == "off" {
		d.remark("only_new off has no counterpart: each message is fetched once")
	}
	limit := int64(-1)
	for _, command := range []string{"skipsize", "killsize"} {
		n, err := strconv.ParseInt(commands[command], 10, 64)
		if err == nil && (limit < 0 || n < limit) {
			limit = n
		}
		if err == nil && command == "killsize" {
			d.remark("killsize has no counterpart: what is larger stays on the server; nothing is deleted that was not delivered")
		}
	}
	if limit >= 0 {
		d.add("max_size", formatSize(max(limit, 1)))
	}
	if commands["received_header"] != "off" {
		d.add("received_header", true)
	}
	if commands["timeout"] == "off" {
		d.addTimeout(math.MaxInt)
	} else {
		n, _ := strconv.Atoi(commands["timeout"])
		d.addTimeout(n)
	}
	switch commands["pipelining"] {
	case "off":
		d.add("pipelining", "off")
	case "on":
		d.remark("pipelining on has no counterpart: commands are sent ahead if the server offers it")
	}
}

// filePath returns the path that a command names, as ours has it. It remarks on a
// relative one.
func (m *mpop) filePath(d *draft, command, name string) string {
	name = m.expandTilde(name, false)
	if name != "" && !filepath.IsAbs(name) && !strings.HasPrefix(name, "~/") {
		d.remark("%s names %s, in the folder in which mpop was run: write the whole path", command, name)
	}
	return name
}

// expandTilde replaces a ~ at the beginning of a path by the home folder, as mpop does.
// Unless always is set it leaves ~/, which mailhaul expands itself.
func (m *mpop) expandTilde(name string, always bool) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok && (always || !strings.HasPrefix(rest, "/")) {
		return m.home + rest
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
