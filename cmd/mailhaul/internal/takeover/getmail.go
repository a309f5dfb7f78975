package takeover

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Getmail reads the configuration files of getmail at paths, of which each is one
// account; without paths those that getmail would read: getmailrc in its folder,
// $XDG_CONFIG_HOME/getmail or ~/.getmail, or without it all files there. home is the
// user's home folder. Nothing that stands in the files is run. The error names the file
// and, for what getmail would refuse, the line.
func Getmail(paths []string, home string) (*Config, error) {
	folder := filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "getmail")
	if !exists(folder) {
		folder = filepath.Join(home, ".getmail")
	}
	if len(paths) == 0 {
		paths = []string{filepath.Join(folder, "getmailrc")}
		if !exists(paths[0]) {
			files, err := os.ReadDir(folder)
			if err != nil {
				return nil, err
			}
			paths = nil
			for _, file := range files {
				if file.Type().IsRegular() && !getmailNotConfig.MatchString(file.Name()) {
					paths = append(paths, filepath.Join(folder, file.Name()))
				}
			}
		}
	}
	g := &getmail{builder: builder{home: home}, folder: folder}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := g.translateFile(path, string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return &g.Config, nil
}

// getmailOther are files in its folder that are no configuration.
var getmailNotConfig = regexp.MustCompile(`^oldmail-|^\.|\.json$|\.bak$|\.swp$|~$|#$`)

type getmail struct {
	builder
	folder string
}

// getmailAccount is what a file comes to.
type getmailAccount struct {
	*draft
	rc        rcFile
	multidrop bool
	route     []Key // of which a map begins
	err       error // the first
}

// getmailNeedless are keys that ask for what is always so here, or never needed.
var getmailRedundantKeys = []string{
	"verbose", "to_oldmail_on_each_mail", "skip_imap_fetch_size", "fingerprint", "message_log_verbose", "netrc_file", "use_netrc",
	"allow_root_commands", "ignore_stderr", "ignore_header_shrinkage", "pipe_stdout",
}

// file takes in a file.
func (g *getmail) translateFile(path, text string) error {
	rc, err := parseRC(text)
	if err != nil {
		return err
	}
	retriever, destination := rc.section("retriever"), rc.section("destination")
	kind := retriever.key("type")
	switch {
	case kind == nil:
		return fmt.Errorf("has no section [retriever] with a type")
	case strings.Contains(kind.value, "IMAP") || strings.Contains(kind.value, "SDPS"):
		g.remark("", "%s is left out: %s does not fetch by POP3 alone, which mailhaul does", path, kind.value)
		return nil
	case !getmailPOP3Type.MatchString(kind.value):
		return kind.invalid("names no retriever that getmail has")
	case destination.key("type") == nil:
		return fmt.Errorf("has no section [destination] with a type")
	}
	a := &getmailAccount{rc: rc, multidrop: strings.HasPrefix(kind.value, "Multidrop")}
	name := getmailNameAffix.ReplaceAllString(filepath.Base(path), "")
	a.draft = g.newDraft(cmp.Or(name, a.text(retriever, "username"), "getmail"))
	host, port := a.connection(retriever, strings.Contains(kind.value, "SSL"))
	a.policy(rc.section("options"))
	a.filters()
	a.deliver(destination)
	if port == "" {
		port = map[bool]string{false: "110", true: "995"}[strings.Contains(kind.value, "SSL")]
	}
	if keep := slices.IndexFunc(a.Keys, func(k Key) bool { return k.Name == "keep" }); a.Keys[keep].Value != false {
		a.SeenFile = g.seenFile(path, "oldmail-"+host+"-"+port+"-"+a.text(retriever, "username"))
	}
	a.reportUnused()
	if a.err == nil {
		a.finish()
	}
	return a.err
}

var (
	getmailPOP3Type    = regexp.MustCompile(`^(Simple|BrokenUIDL|Multidrop)POP3(SSL)?Retriever$`)
	getmailNameAffix   = regexp.MustCompile(`^getmailrc[-._]?|(^|[-._])getmailrc$|\.(rc|conf|cfg)$`)
	getmailUnsafeChars = regexp.MustCompile(`[/:;<>|]+`)
)

// oldmail returns where getmail remembers what it left: beside the file, or in its
// own folder.
func (g *getmail) seenFile(path, name string) string {
	name = getmailUnsafeChars.ReplaceAllString(name, "-")
	if file := filepath.Join(filepath.Dir(path), name); exists(file) {
		return file
	}
	return filepath.Join(g.folder, name)
}

// These read a key. The first mistake is kept.
func (a *getmailAccount) text(s *rcSection, name string) string    { return readKey(a, s.text, name) }
func (a *getmailAccount) number(s *rcSection, name string) int64   { return readKey(a, s.number, name) }
func (a *getmailAccount) tuple(s *rcSection, name string) []string { return readKey(a, s.tuple, name) }
func (a *getmailAccount) items(s *rcSection, name string) []any    { return readKey(a, s.items, name) }
func (a *getmailAccount) boolean(s *rcSection, name string, d bool) bool {
	return readKey(a, func(name string) (bool, error) { return s.boolean(name, d) }, name)
}

func readKey[T any](a *getmailAccount, read func(string) (T, error), name string) T {
	v, err := read(name)
	a.err = cmp.Or(a.err, err)
	return v
}

// need is text that getmail insists on.
func (a *getmailAccount) required(s *rcSection, name string) string {
	text := a.text(s, name)
	if text == "" && a.err == nil {
		a.err = fmt.Errorf("section [%s] has no %s", s.name, name)
	}
	return text
}

// retriever translates the server and the login.
func (a *getmailAccount) connection(s *rcSection, ssl bool) (host, port string) {
	host = a.required(s, "server")
	usual := "110"
	if ssl {
		usual = "995"
	}
	if k := s.key("port"); k != nil {
		n := a.number(s, "port")
		port = strconv.FormatInt(n, 10)
		if n < 1 || n > 1<<16-1 {
			a.err = cmp.Or(a.err, k.invalid("is no port"))
		}
	}
	a.addIfSet("server", hostPort(host, port, usual))
	if !ssl {
		a.add("tls", "none")
		a.remark("everybody on the way can read the mail, and change it, and the password is seldom hidden. If the server has TLS, take out tls: none")
	}
	name, password, command := a.text(s, "username"), a.text(s, "password"), a.tuple(s, "password_command")
	a.addIfSet("user", name)
	if name == "" {
		a.disable("add user: ~/.netrc is not read")
	}
	switch token := a.boolean(s, "use_xoauth2", false); {
	case password != "" && !token:
		a.addIfSet("password", password)
	case token && len(command) == 0:
		a.disable("add token_command, or oauth (see mailhaul help login)")
	case len(command) == 0:
		a.disable("add a password: getmail has it from the keyring, ~/.netrc or you, and mailhaul from password_command, password_file or password_env")
	case a.checkText("password_command", command...):
		command[0] = escapePath(command[0])
		a.add(map[bool]string{false: "password_command", true: "token_command"}[token], command)
	}
	if a.boolean(s, "use_apop", false) {
		a.add("auth", "apop")
	}
	if ssl {
		a.trust(s)
	}
	a.addTimeout(int(min(a.number(s, "timeout"), math.MaxInt32)))
	if a.boolean(s, "delete_dup_msgids", false) {
		a.remark("delete_dup_msgids has no counterpart: messages with the same unique-id are all fetched, and none is deleted that was not delivered")
	}
	return host, port
}

// trust translates whose certificates are trusted.
func (a *getmailAccount) trust(s *rcSection) {
	pins, ca := a.tuple(s, "ssl_fingerprints"), a.filePath(s, "ca_certs")
	for _, pin := range pins {
		if !sha256Hex.MatchString(strings.ReplaceAll(pin, ":", "")) {
			a.err = cmp.Or(a.err, s.key("ssl_fingerprints").invalid("holds what is no SHA-256"))
		}
	}
	switch {
	case len(pins) > 0:
		a.add("tls_fingerprint", pins)
		if ca != "" {
			a.remark("ca_certs is left out: with tls_fingerprint nothing else is trusted")
		}
	case ca != "":
		a.addIfSet("tls_ca", ca)
	default:
		a.remark("getmail trusts any certificate without ca_certs. Here it must be one that the system trusts; if it is not, mailhaul check prints a tls_fingerprint to add")
	}
	a.addIfSet("tls_name", a.text(s, "ssl_cert_hostname"))
	a.addIfSet("tls_cert", a.filePath(s, "certfile"))
	a.addIfSet("tls_key", a.filePath(s, "keyfile"))
	switch version := strings.ToLower(a.text(s, "ssl_version")); version {
	case "", "sslv23", "tlsv1_2":
	case "tlsv1":
		a.add("tls_min", "1.0")
	case "tlsv1_1":
		a.add("tls_min", "1.1")
	default:
		a.remark("ssl_version %s has no counterpart: if an old server needs it, try tls_min: 1.0", version)
	}
	if a.text(s, "ssl_ciphers") != "" {
		a.remark("ssl_ciphers has no counterpart: if an old server needs it, try tls_min: 1.0")
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// policy translates what is fetched, and what becomes of it.
func (a *getmailAccount) policy(s *rcSection) {
	gone, days := a.boolean(s, "delete", false), a.number(s, "delete_after")
	switch {
	case gone:
		a.add("keep", false)
	case days > 0:
		a.add("keep", strconv.FormatInt(days, 10)+"d")
	default:
		a.add("keep", "forever")
	}
	if a.boolean(s, "read_all", true) && !gone {
		a.remark("read_all, the default of getmail, fetches what stays on the server again each time; here each message is fetched once")
	}
	if n := a.number(s, "max_message_size"); n > 0 {
		a.add("max_size", formatSize(n))
	}
	if a.number(s, "delete_bigger_than") > 0 && !gone {
		a.remark("delete_bigger_than has no counterpart: keep is the same for all sizes")
	}
	for _, name := range []string{"max_messages_per_session", "max_bytes_per_session"} {
		if a.number(s, name) > 0 {
			a.remark("%s has no counterpart: a poll takes all that is new, and holds up no other account", name)
		}
	}
	if a.boolean(s, "received", true) {
		a.add("received_header", true)
	}
	if explicit := s.key("delivered_to") != nil; a.boolean(s, "delivered_to", true) && (explicit || a.multidrop) {
		a.remark("delivered_to has no counterpart: here it is an address to write, the same into each message")
	}
	if a.text(s, "message_log") != "" || a.boolean(s, "message_log_syslog", false) {
		a.remark("message_log has no counterpart: what happened goes to standard error, which cron mails and the journal keeps")
	}
}

// path reads a key that names a file.
func (a *getmailAccount) filePath(s *rcSection, name string) string {
	return a.resolvePath(a.text(s, name))
}

// ourFile returns the name of a file as our configuration has it. Variables are the same
// there; ~user is not.
func (a *getmailAccount) resolvePath(name string) string {
	owner, rest, _ := strings.Cut(strings.TrimPrefix(name, "~"), "/")
	if strings.HasPrefix(name, "~") && owner != "" {
		u, err := user.Lookup(owner)
		if err != nil {
			a.disable("there is no user %s here: write the whole path of %s", owner, name)
			return ""
		}
		return strings.TrimRight(u.HomeDir, "/") + "/" + rest
	}
	if name != "" && !strings.ContainsAny(name[:1], "/~$") {
		a.remark("%s is in the folder in which getmail was run: write the whole path", name)
	}
	return name
}

var getmailVariable = regexp.MustCompile(`\$(\w+|\{[^}]*\})`)

// expand puts values in the place of variables and of ~, which we do in paths only. What
// is not set stays, as with getmail.
func (a *getmailAccount) expand(s string) string {
	s = getmailVariable.ReplaceAllStringFunc(s, func(v string) string {
		name := strings.Trim(v, "${}")
		if name == "HOME" {
			return a.home
		}
		if value, ok := os.LookupEnv(name); ok {
			return value
		}
		return v
	})
	if s == "~" || strings.HasPrefix(s, "~/") {
		return a.home + s[1:]
	}
	if strings.HasPrefix(s, "~") {
		return a.resolvePath(s)
	}
	return s
}

// leftovers tells what nothing was made of.
func (a *getmailAccount) reportUnused() {
	var needless []string
	for _, s := range a.rc {
		if !s.used {
			a.remark("section %s is left out", s.name)
			continue
		}
		for _, k := range s.keys {
			if slices.Contains(getmailRedundantKeys, k.name) {
				needless = append(needless, k.name)
			} else if !k.used {
				a.remark("%s in section %s is left out: it is nothing that getmail has for POP3", k.name, s.name)
			}
		}
	}
	if len(needless) > 0 {
		slices.Sort(needless)
		a.remark("not needed here: %s", strings.Join(slices.Compact(needless), ", "))
	}
}
