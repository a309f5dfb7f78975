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

// Getmail translates the configuration files of getmail at paths, each of which is an
// account. Without paths it takes those that getmail would read: getmailrc in the folder
// $XDG_CONFIG_HOME/getmail or ~/.getmail, or if there is none all files there. home is
// the user's home folder. The error names the file and, for what getmail would refuse,
// the line.
func Getmail(paths []string, home string) (*Config, error) {
	folder := filepath.Join(cmp.Or(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "getmail")
	if !exists(folder) {
		folder = filepath.Join(home, ".getmail")
	}
	if len(paths) == 0 {
		var err error
		if paths, err = getmailPaths(folder); err != nil {
			return nil, err
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

// getmailPaths returns the files in folder that getmail would read.
func getmailPaths(folder string) (paths []string, err error) {
	if rc := filepath.Join(folder, "getmailrc"); exists(rc) {
		return []string{rc}, nil
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if file.Type().IsRegular() && !getmailNotConfig.MatchString(file.Name()) {
			paths = append(paths, filepath.Join(folder, file.Name()))
		}
	}
	return paths, nil
}

// getmailNotConfig matches the names of files in getmail's folder that are no
// configuration.
var getmailNotConfig = regexp.MustCompile(`^oldmail-|^\.|\.json$|\.bak$|\.swp$|~$|#$`)

// getmail translates the files of getmail.
type getmail struct {
	builder
	folder string // of getmail
}

// getmailAccount translates a file.
type getmailAccount struct {
	*draft
	rc             *getmailRC
	user, password string // empty if unknown
	multidrop      bool   // whether the maildrop is for several people
	routeMap       []Key  // the keys of map below route
}

// getmailRedundantKeys are keys that ask for what mailhaul always does, or never needs.
var getmailRedundantKeys = []string{
	"verbose", "to_oldmail_on_each_mail", "skip_imap_fetch_size", "fingerprint", "message_log_verbose",
	"allow_root_commands", "ignore_stderr", "ignore_header_shrinkage", "pipe_stdout",
}

// translateFile translates the file at path.
func (g *getmail) translateFile(path, text string) error {
	rc, err := parseGetmailRC(text)
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
	a.draft = g.newDraft(cmp.Or(name, retriever.text("username"), "getmail"))
	a.readCredentials(retriever, rc.section("options"))
	host, port := a.connection(retriever, strings.Contains(kind.value, "SSL"))
	keeps := a.policy(rc.section("options"))
	a.filters()
	a.deliver(destination)
	if keeps {
		a.SeenFile = g.seenFile(path, "oldmail-"+host+"-"+port+"-"+a.user)
	}
	a.reportUnused()
	if a.rc.err == nil {
		a.finish()
	}
	return a.rc.err
}

var (
	getmailPOP3Type    = regexp.MustCompile(`^(Simple|BrokenUIDL|Multidrop)POP3(SSL)?Retriever$`)
	getmailNameAffix   = regexp.MustCompile(`^getmailrc[-._]?|(^|[-._])getmailrc$|\.(rc|conf|cfg)$`)
	getmailUnsafeChars = regexp.MustCompile(`[/:;<>|]+`)
)

// seenFile returns the file in which getmail remembers what it left on the server: beside
// the configuration file at path, or in getmail's folder.
func (g *getmail) seenFile(path, name string) string {
	name = getmailUnsafeChars.ReplaceAllString(name, "-")
	if file := filepath.Join(filepath.Dir(path), name); exists(file) {
		return file
	}
	return filepath.Join(g.folder, name)
}

// connection translates the server and the login.
func (a *getmailAccount) connection(s *getmailSection, ssl bool) (host, port string) {
	host = s.required("server")
	defaultPort := "110"
	if ssl {
		defaultPort = "995"
	}
	port = defaultPort
	if k := s.key("port"); k != nil {
		n := s.number("port")
		port = strconv.FormatInt(n, 10)
		if n < 1 || n > 1<<16-1 {
			a.rc.fail(k.invalid("is no port"))
		}
	}
	a.addIfSet("server", hostPort(host, port, defaultPort))
	if !ssl {
		a.add("tls", "none")
		a.remark("everybody on the way can read the mail, and change it, and the password is seldom hidden. If the server has TLS, take out tls: none")
	}
	a.login(s)
	if ssl {
		a.trust(s)
	}
	a.addTimeout(int(min(s.number("timeout"), math.MaxInt32)))
	if s.boolean("delete_dup_msgids", false) {
		a.remark("delete_dup_msgids has no counterpart: messages with the same unique-id are all fetched, and none is deleted that was not delivered")
	}
	return host, port
}

// readCredentials reads the user and the password. What is in a .netrc file that getmail
// was told to read takes precedence.
func (a *getmailAccount) readCredentials(s, options *getmailSection) {
	a.user, a.password = s.text("username"), s.text("password")
	file := cmp.Or(a.expand(options.text("netrc_file")), filepath.Join(a.home, ".netrc"))
	if options.boolean("use_netrc", false) {
		e := readNetrc(file, pythonNetrc).findMachine(s.text("server"))
		a.user, a.password = cmp.Or(e.login, a.user), cmp.Or(e.password, a.password)
	}
}

// login translates the user, the password and the mechanism.
func (a *getmailAccount) login(s *getmailSection) {
	command := s.tuple("password_command")
	a.addIfSet("user", a.user)
	if a.user == "" {
		a.disable("add user: there is none")
	}
	switch token := s.boolean("use_xoauth2", false); {
	case a.password != "" && !token:
		a.addIfSet("password", a.password)
	case token && len(command) == 0:
		a.disable("add token_command, or oauth (see mailhaul help login)")
	case len(command) == 0:
		a.disable("add a password: getmail has it from the keyring or you, and mailhaul from password_command, password_file or password_env")
	case a.checkText("password_command", command...):
		command[0] = escapePath(command[0])
		key := "password_command"
		if token {
			key = "token_command"
		}
		a.add(key, command)
	}
	if s.boolean("use_apop", false) {
		a.add("auth", "apop")
	}
}

// trust translates the certificates: those that are trusted, and that of the client.
func (a *getmailAccount) trust(s *getmailSection) {
	pins, ca := s.tuple("ssl_fingerprints"), a.filePath(s, "ca_certs")
	for _, pin := range pins {
		if !sha256Hex.MatchString(strings.ReplaceAll(pin, ":", "")) {
			a.rc.fail(s.key("ssl_fingerprints").invalid("holds what is no SHA-256"))
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
	a.addIfSet("tls_name", s.text("ssl_cert_hostname"))
	a.addIfSet("tls_cert", a.filePath(s, "certfile"))
	a.addIfSet("tls_key", a.filePath(s, "keyfile"))
	switch version := strings.ToLower(s.text("ssl_version")); version {
	case "", "sslv23", "tlsv1_2":
	case "tlsv1":
		a.add("tls_min", "1.0")
	case "tlsv1_1":
		a.add("tls_min", "1.1")
	default:
		a.remark("ssl_version %s has no counterpart: if an old server needs it, try tls_min: 1.0", version)
	}
	if s.text("ssl_ciphers") != "" {
		a.remark("ssl_ciphers has no counterpart: if an old server needs it, try tls_min: 1.0")
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// policy translates what is fetched, and reports whether it stays on the server.
func (a *getmailAccount) policy(s *getmailSection) (keeps bool) {
	keeps = !s.boolean("delete", false)
	days := s.number("delete_after")
	switch {
	case !keeps:
		a.add("keep", false)
	case days > 0:
		a.add("keep", strconv.FormatInt(days, 10)+"d")
	default:
		a.add("keep", "forever")
	}
	if s.boolean("read_all", true) && keeps {
		a.remark("read_all, the default of getmail, fetches what stays on the server again each time; here each message is fetched once")
	}
	if n := s.number("max_message_size"); n > 0 {
		a.add("max_size", formatSize(n))
	}
	if s.number("delete_bigger_than") > 0 && keeps {
		a.remark("delete_bigger_than has no counterpart: keep is the same for all sizes")
	}
	for _, name := range []string{"max_messages_per_session", "max_bytes_per_session"} {
		if s.number(name) > 0 {
			a.remark("%s has no counterpart: a poll takes all that is new, and holds up no other account", name)
		}
	}
	if s.boolean("received", true) {
		a.add("received_header", true)
	}
	if explicit := s.key("delivered_to") != nil; s.boolean("delivered_to", true) && (explicit || a.multidrop) {
		a.remark("delivered_to has no counterpart: here it is an address to write, the same into each message")
	}
	if s.text("message_log") != "" || s.boolean("message_log_syslog", false) {
		a.remark("message_log has no counterpart: what happened goes to standard error, which cron mails and the journal keeps")
	}
	return keeps
}

// filePath returns the value of a key that names a file, as resolvePath does.
func (a *getmailAccount) filePath(s *getmailSection, name string) string {
	return a.resolvePath(s.text(name))
}

// resolvePath returns a path of getmail's for mailhaul, which expands variables and ~/ as
// getmail does, but not ~user: that is resolved here.
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

// expand replaces variables and ~, which mailhaul does in paths only. Variables that are
// not set stay, as with getmail.
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

// reportUnused remarks on the sections and keys that no other function has read.
func (a *getmailAccount) reportUnused() {
	var redundant []string
	for _, s := range a.rc.sections {
		if !s.used {
			a.remark("section %s is left out", s.name)
			continue
		}
		for _, k := range s.keys {
			if slices.Contains(getmailRedundantKeys, k.name) {
				redundant = append(redundant, k.name)
			} else if !k.used {
				a.remark("%s in section %s is left out: it is nothing that getmail has for POP3", k.name, s.name)
			}
		}
	}
	if len(redundant) > 0 {
		slices.Sort(redundant)
		a.remark("not needed here: %s", strings.Join(slices.Compact(redundant), ", "))
	}
}
