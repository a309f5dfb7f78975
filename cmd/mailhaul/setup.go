package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// setup is what mailhaul init knows of the configuration that it will write. It has yet
// to find out the empty fields.
type setup struct {
	path string // of the configuration file
	name string // of the account

	server string // host or host:port
	tls    config.TLS
	user   string

	// One of these says how to log in.
	typed           string // a password, to be kept in a file of its own
	passwordFile    string
	passwordCommand string
	oauth           string // the name of a provider

	// The client of oauth has one of the two secrets, or none.
	clientID, clientSecret, clientSecretFile string

	kind  string // the key of the sink, such as maildir
	place string // where the sink puts the mail
	to    string // the recipient, for smtp and lmtp
	keep  string
}

// defaultKeep leaves the user time to notice a mistake.
const defaultKeep = "14d"

// keepValues are the values of keep, for a question.
const keepValues = "false (delete at once), 14d, or forever"

// withPlaceholders returns s with something in every required field that is empty, so
// that the others can be validated.
func (s setup) withPlaceholders() setup {
	s.name = cmp.Or(s.name, "mail")
	s.server = cmp.Or(s.server, "pop.example.com")
	s.tls = cmp.Or(s.tls, config.TLSImplicit)
	s.user = cmp.Or(s.user, "me")
	s.clientID = cmp.Or(s.clientID, "id")
	s.keep = cmp.Or(s.keep, defaultKeep)
	if s.kind == "" || s.place == "" {
		s.kind, s.place = "maildir", "~/Maildir"
	}
	if (s.kind == "smtp" || s.kind == "lmtp") && s.to == "" {
		s.to = "me@example.com"
	}
	return s
}

// parse validates what is known so far, and returns the configuration with placeholders
// for the rest.
func (s setup) parse() (*config.Config, error) {
	return config.Parse(s.path, []byte(s.withPlaceholders().yaml()))
}

// passwordPath returns the file for a typed password, relative to the configuration.
func (s setup) passwordPath() string { return s.name + ".password" }

// clientSecretPath returns the file for a typed client secret, relative to the
// configuration.
func (s setup) clientSecretPath() string { return s.oauth + ".secret" }

// secretFiles returns the contents of the files to write beside the configuration, by
// path.
func (s setup) secretFiles() map[string]string {
	files := map[string]string{}
	dir := filepath.Dir(s.path)
	if s.typed != "" {
		files[filepath.Join(dir, s.passwordPath())] = s.typed + "\n"
	}
	if s.clientSecret != "" {
		files[filepath.Join(dir, s.clientSecretPath())] = s.clientSecret + "\n"
	}
	return files
}

// yaml returns the text of the configuration file.
func (s setup) yaml() string {
	var b strings.Builder
	line := func(indent int, key, value, comment string) {
		text := strings.Repeat("  ", indent) + key + ": " + value
		if comment != "" {
			text = fmt.Sprintf("%-41s # %s", text, comment)
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	b.WriteString("# Written by mailhaul init. mailhaul.yaml(5) explains every option, mailhaul\n" +
		"# config show shows it with all defaults, and mailhaul check tries it out.\n\n")
	if s.oauth != "" {
		b.WriteString("# The client by which mailhaul login asks for access.\noauth:\n")
		line(1, s.oauth, "", "")
		line(2, "client_id", config.Scalar(s.clientID), "")
		if file := s.clientSecretFileKey(); file != "" {
			line(2, "client_secret_file", config.Scalar(file), "not readable by everyone")
		}
		b.WriteString("\n")
	}
	b.WriteString("# Where the mail goes.\nsinks:\n  home:\n")
	place := config.Scalar(s.place)
	if s.kind == "mda" {
		place = config.List(strings.Fields(s.place))
	}
	line(2, s.kind, place, "")
	if s.kind == "smtp" || s.kind == "lmtp" {
		line(2, "to", config.Scalar(s.to), "")
	}
	b.WriteString("\n# The maildrops to poll.\naccounts:\n")
	line(1, config.Scalar(s.name), "", "")
	line(2, "server", config.Scalar(s.server), tlsComment[s.tls])
	if s.tls != config.TLSImplicit {
		line(2, "tls", string(s.tls), "")
	}
	line(2, "user", config.Scalar(s.user), "")
	switch {
	case s.oauth != "":
		line(2, "oauth", s.oauth, "mailhaul login "+s.name)
	case s.typed != "":
		line(2, "password_file", config.Scalar(s.passwordPath()), "not readable by everyone")
	case s.passwordFile != "":
		line(2, "password_file", config.Scalar(s.passwordFile), "not readable by everyone")
	default:
		line(2, "password_command", config.Scalar(cmp.Or(s.passwordCommand, "pass")), "prints the password")
	}
	line(2, "keep", config.Scalar(s.keep), keepComment(s.keep))
	return b.String()
}

// clientSecretFileKey returns the value of client_secret_file, "" if the client has no
// secret.
func (s setup) clientSecretFileKey() string {
	if s.clientSecret != "" {
		return s.clientSecretPath()
	}
	return s.clientSecretFile
}

var tlsComment = map[config.TLS]string{
	config.TLSImplicit: "TLS, verified",
	config.TLSStart:    "STARTTLS, verified",
	config.TLSNone:     "in the clear: everyone on the way can read it",
}

func keepComment(keep string) string {
	switch strings.ToLower(keep) {
	case "false", "no", "off":
		return "delete mail from the server once it is here"
	case "forever":
		return "never delete mail from the server"
	}
	return "how long mail stays on the server"
}

// write creates the files of the secrets, then the configuration. None of them may
// exist. After an error it leaves none behind.
func (s setup) write() (err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	var created []string
	defer func() {
		if err != nil {
			for _, path := range created {
				os.Remove(path)
			}
		}
	}()
	for path, text := range s.secretFiles() {
		if err := writeNew(path, text); err != nil {
			return err
		}
		created = append(created, path)
	}
	return writeNew(s.path, s.yaml())
}
