package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
)

// setup is what mailhaul init knows of the configuration that it will write.
// What is empty is still to be found out.
type setup struct {
	path string // of the file
	name string // of the account

	server string // host or host:port
	tls    config.TLS
	user   string

	// One of these is where the password comes from; typed is kept in a file of
	// its own.
	typed, passwordFile, passwordCommand string
	oauth                                string // a provider of OAuth 2.0
	clientID, clientSecret               string
	clientSecretFile                     string

	kind  string // of the sink: its key
	place string // where it puts the mail
	to    string // for whom, where the kind of sink has to be told
	keep  string
}

// defaultKeep leaves time to notice that something is not as it should be.
const defaultKeep = "14d"

// keepValues is what keep may be.
const keepValues = "false (delete at once), 14d, or forever"

// filled returns s with something in every place that is empty, so that what
// is there can be checked.
func (s setup) filled() setup {
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

// parse returns the configuration as it is so far.
func (s setup) parse() (*config.Config, error) {
	return config.Parse(s.path, []byte(s.filled().text()))
}

// passwordPath is where a password that was typed is kept, relative to the
// configuration.
func (s setup) passwordPath() string { return s.name + ".password" }

// clientSecretPath is the same for the secret of a client.
func (s setup) clientSecretPath() string { return s.oauth + ".secret" }

// files are what is to be written beside the configuration, by their paths.
func (s setup) files() map[string]string {
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

// text returns the configuration file.
func (s setup) text() string {
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

// clientSecretFileKey is the value of client_secret_file, "" if the client has
// no secret.
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

// configPath returns how the configuration names a file that a person named,
// relative to the working folder.
func configPath(path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	// A configuration has variables in its paths.
	return strings.ReplaceAll(tilde(abs), "$", "$$"), nil
}

// write writes the configuration, and before it the files that it names. None
// may be there already; after an error none is there.
func (s setup) write() (err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	var made []string
	defer func() {
		if err != nil {
			for _, path := range made {
				os.Remove(path)
			}
		}
	}()
	for path, text := range s.files() {
		if err := writeNew(path, text); err != nil {
			return err
		}
		made = append(made, path)
	}
	return writeNew(s.path, s.text())
}

// writeNew writes a file that only its owner may read, which must not be
// there.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
