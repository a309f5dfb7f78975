package takeover

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	rc, err := parseMpopRC(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m := &mpop{builder{home: home}}
	for _, n := range rc.evalLines {
		m.remark("", mpopEvalRemark, n)
	}
	for i, a := range rc.accounts {
		if err := m.translateAccount(a, rc.accounts[:i]); err != nil {
			return nil, fmt.Errorf("%s: account %s: %w", path, a.name, err)
		}
	}
	return &m.Config, nil
}

const mpopEvalRemark = "line %d: eval runs a command, and nothing is run here: add by hand what it prints"

// mpop translates the configuration of mpop.
type mpop struct{ builder }

// mpopAccount translates an account.
type mpopAccount struct {
	*draft
	commands map[string]string // the argument of each command of mpop
}

// translateAccount translates an account. It leaves out one that lacks what mpop needs,
// which is there for others to inherit from, and one that is the same as an earlier one.
func (m *mpop) translateAccount(def *mpopDefinition, earlier []*mpopDefinition) error {
	commands := def.commands
	for _, e := range earlier {
		if maps.Equal(e.commands, commands) && slices.Equal(e.evalLines, def.evalLines) {
			m.remark("", "account %s is account %s once more, and is left out", def.name, e.name)
			return nil
		}
	}
	for _, command := range []string{"host", "delivery"} {
		if commands[command] == "" && !(command == "host" && commands["socket"] != "") {
			m.remark("", "account %s has no %s, without which mpop does not poll it: it is left out", def.name, command)
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
	a := mpopAccount{m.newDraft(def.name), commands}
	if a.Name != def.name {
		a.remark("is called %q there", def.name)
	}
	for _, n := range def.evalLines {
		a.remark(mpopEvalRemark, n)
	}
	a.connection()
	a.deliver()
	a.policy()
	a.finish()
	return nil
}

// connection translates the way to the server, TLS and the login.
func (a mpopAccount) connection() {
	tls, defaultPort := "none", "110"
	if a.commands["tls"] == "on" && a.commands["tls_starttls"] == "off" {
		tls, defaultPort = "implicit", "995"
	} else if a.commands["tls"] == "on" {
		tls = "starttls"
	}
	host := cmp.Or(a.commands["host"], a.commands["tls_host_override"], "localhost")
	a.add("server", hostPort(host, a.commands["port"], defaultPort))
	if tls != "implicit" { // the default
		a.add("tls", tls)
	}
	a.login(tls)
	if tls != "none" {
		a.trust()
	}
	if a.commands["socket"] != "" {
		a.add("tunnel", []string{"nc", "-U", a.commands["socket"]})
		a.remark("the tunnel to the socket needs the program nc, one that knows -U")
		return
	}
	if proxy := a.commands["proxy_host"]; proxy != "" {
		a.add("socks5", hostPort(proxy, a.commands["proxy_port"], "1080"))
	}
	a.addIfSet("source_ip", a.commands["source_ip"])
}

// login translates the user, the password and the mechanism. tls is the value of tls for
// mailhaul.
func (a mpopAccount) login(tls string) {
	a.addIfSet("user", a.commands["user"])
	if a.commands["user"] == "" {
		a.disable("add user: there is none")
	}
	password, command, auth := a.commands["password"], a.commands["passwordeval"], a.commands["auth"]
	if password == "" && command == "" {
		password = a.netrc(fetchmailNetrc).password(a.commands["user"], a.commands["host"])
	}
	token := auth == "oauthbearer" || auth == "xoauth2"
	switch {
	case auth == "gssapi":
		a.add("kerberos", true)
	case auth == "external" && tls != "none" && a.commands["tls_cert_file"] != "":
	case auth == "external":
		a.disable("add tls_cert and tls_key: auth external rests on a certificate, and on TLS")
	case token && password == "" && command != "":
		a.addIfSet("token_command", command)
	case token:
		a.disable("add token_command, or oauth (see mailhaul help login): a token as it stands in the file soon expires")
	case password != "":
		a.addIfSet("password", password)
	case command != "":
		a.addIfSet("password_command", command)
	default:
		a.disable("add a password: mpop has it from the keyring or you; for the keyring, password_command: [secret-tool, lookup, host, %s, service, pop3, user, %s]",
			a.commands["host"], a.commands["user"])
	}
	switch {
	case auth == "ntlm":
		a.remark("auth ntlm has no counterpart: another mechanism is used that the server offers")
	case auth != "":
		a.add("auth", auth)
	case tls == "none":
		// Without TLS, mpop chooses no other mechanisms by itself.
		a.add("auth", []string{"scram-sha-256", "scram-sha-1"})
	}
	if tls == "none" {
		a.remark("tls is off: everybody on the way can read the mail, and change it. If the server has TLS, take out tls: none, and auth")
	}
}

// trust translates the certificates: those that are trusted, and that of the client.
func (a mpopAccount) trust() {
	pin := a.commands["tls_fingerprint"]
	switch {
	case a.commands["tls_certcheck"] == "off":
		a.remark("tls_certcheck off has no counterpart: for a certificate that is not trusted, mailhaul check prints a tls_fingerprint to add")
	case len(pin) == len("00:")*sha256.Size-1:
		a.add("tls_fingerprint", pin)
	case pin != "":
		a.remark("tls_fingerprint is not by SHA-256, and is left out: mailhaul check prints one that is")
	case a.commands["tls_trust_file"] != "system":
		a.addIfSet("tls_ca", escapePath(a.filePath("tls_trust_file", a.commands["tls_trust_file"])))
	}
	a.addIfSet("tls_name", a.commands["tls_host_override"])
	if strings.HasPrefix(a.commands["tls_cert_file"]+a.commands["tls_key_file"], "pkcs11:") {
		a.remark("tls_cert_file on a device has no counterpart: tls_cert and tls_key take files")
	} else {
		a.addIfSet("tls_cert", escapePath(a.filePath("tls_cert_file", a.commands["tls_cert_file"])))
		a.addIfSet("tls_key", escapePath(a.filePath("tls_key_file", a.commands["tls_key_file"])))
	}
	if a.commands["tls_crl_file"] != "" {
		a.remark("tls_crl_file has no counterpart: revoked certificates are not looked up")
	}
	for _, command := range []string{"tls_priorities", "tls_min_dh_prime_bits"} {
		if a.commands[command] != "" {
			a.remark("%s has no counterpart: if an old server needs it, try tls_min: 1.0", command)
		}
	}
}

// deliver translates where the mail goes.
func (a mpopAccount) deliver() {
	method, arg, _ := strings.Cut(a.commands["delivery"], " ")
	switch method {
	case "mda":
		a.addMDA(arg, "")
	case "exchange":
		a.disable("delivery exchange has no counterpart: add a sink, and deliver")
	default:
		path := a.filePath("delivery", arg)
		if a.checkText("delivery", path) {
			a.add("deliver", a.addSink(filepath.Base(path), Key{method, escapePath(path)}))
		}
	}
}

// policy translates which messages are fetched, how long they stay, and how they are
// fetched.
func (a mpopAccount) policy() {
	switch keep := a.commands["keep"]; keep {
	case "", "off":
		a.add("keep", false)
	case "on":
		a.add("keep", "forever")
	default:
		a.add("keep", keep)
	}
	if a.commands["keep"] != "" && a.commands["keep"] != "off" {
		file := a.expandTilde(cmp.Or(a.commands["uidls_file"], "~/.mpop_uidls/%U_at_%H"), true)
		a.SeenFile = strings.ReplaceAll(strings.ReplaceAll(file, "%U", a.commands["user"]), "%H", cmp.Or(a.commands["host"], a.commands["socket"]))
	}
	if a.commands["filter"] != "" {
		a.remark("filter has no counterpart, and is left out: it sees the header only, and filter here the whole message, which it must print")
	}
	if a.commands["only_new"] == "off" {
		a.remark("only_new off has no counterpart: each message is fetched once")
	}
	limit := int64(-1)
	for _, command := range []string{"skipsize", "killsize"} {
		n, err := strconv.ParseInt(a.commands[command], 10, 64)
		if err == nil && (limit < 0 || n < limit) {
			limit = n
		}
		if err == nil && command == "killsize" {
			a.remark("killsize has no counterpart: what is larger stays on the server; nothing is deleted that was not delivered")
		}
	}
	if limit >= 0 {
		a.add("max_size", formatSize(max(limit, 1)))
	}
	if a.commands["received_header"] != "off" {
		a.add("received_header", true)
	}
	if a.commands["timeout"] == "off" {
		a.addTimeout(math.MaxInt)
	} else {
		n, _ := strconv.Atoi(a.commands["timeout"])
		a.addTimeout(n)
	}
	switch a.commands["pipelining"] {
	case "off":
		a.add("pipelining", "off")
	case "on":
		a.remark("pipelining on has no counterpart: commands are sent ahead if the server offers it")
	}
}

// filePath returns the path that a command names, for mailhaul. It remarks on a relative
// one.
func (a mpopAccount) filePath(command, name string) string {
	name = a.expandTilde(name, false)
	if name != "" && !filepath.IsAbs(name) && !strings.HasPrefix(name, "~/") {
		a.remark("%s names %s, in the folder in which mpop was run: write the whole path", command, name)
	}
	return name
}

// expandTilde replaces a ~ at the beginning of a path by the home folder, as mpop does.
// Unless always is set it leaves ~/, which mailhaul expands itself.
func (a mpopAccount) expandTilde(name string, always bool) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok && (always || !strings.HasPrefix(rest, "/")) {
		return a.home + rest
	}
	return name
}
