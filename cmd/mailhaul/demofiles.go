package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
	"github.com/mailhaul/mailhaul/testdata"
)

// demo is a server with mail, and the folder that the mail is fetched into.
type demo struct {
	dir    string
	server *pop3test.Server
	owners map[string]string // the user of each message, by its text as delivered
}

// demoUsers have a maildrop each. The mail of demoKeepUser stays on the server.
var demoUsers = []string{"ada", "grace", "hedy"}

const (
	demoKeepUser = "hedy"
	demoPassword = "a-password-of-the-demo"
)

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// addMessages puts the messages into the maildrops of the users in turn.
func (d *demo) addMessages() error {
	names, err := fs.Glob(testdata.Messages, "messages/*.eml")
	if err != nil {
		return err
	}
	d.owners = map[string]string{}
	for i, name := range names {
		text, err := testdata.Messages.ReadFile(name)
		if err != nil {
			return err
		}
		user := demoUsers[i%len(demoUsers)]
		d.server.Account(user, demoPassword).Add(fmt.Sprintf("demo-%04d", i), text)
	}
	for _, user := range demoUsers {
		for _, m := range d.server.Account(user, demoPassword).Messages() {
			d.owners[string(bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n")))] = user
		}
	}
	return nil
}

// writeFiles writes the configuration, the password and the certificate of the server's
// authority. It returns the text of the configuration.
func (d *demo) writeFiles() (config string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, `state: state
sinks:
  inbox: { maildir: Maildir }
defaults:
  server: %s
  tls_ca: ca.pem
  password_file: password
accounts:
`, d.server.Addr())
	for _, user := range demoUsers {
		keep := "false"
		if user == demoKeepUser {
			keep = "14d"
		}
		fmt.Fprintf(&b, "  %s: { user: %[1]s, keep: %s }\n", user, keep)
	}
	for name, text := range map[string]string{
		"config.yaml": b.String(), "password": demoPassword + "\n", "ca.pem": string(d.server.CA()),
	} {
		if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// verify checks that each message was delivered once and unchanged, and that the server
// has the mail of demoKeepUser and nothing else.
func (d *demo) verify() error {
	files, err := filepath.Glob(d.path("Maildir/new/*"))
	if err != nil {
		return err
	}
	delivered := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		message := stripReceived(string(text))
		if d.owners[message] == "" {
			return fmt.Errorf("%s is not what the server had", file)
		}
		delivered[message] = true
	}
	if len(files) != len(delivered) || len(delivered) != len(d.owners) {
		return fmt.Errorf("%d files with %d messages were delivered, not %d", len(files), len(delivered), len(d.owners))
	}
	for _, user := range demoUsers {
		want := 0
		for _, owner := range d.owners {
			if owner == user && user == demoKeepUser {
				want++
			}
		}
		if left := len(d.server.Account(user, demoPassword).Messages()); left != want {
			return fmt.Errorf("the server has %d messages for %s, not %d", left, user, want)
		}
	}
	return nil
}

// stripReceived removes the Received field that mailhaul added at the top, with its
// continuation lines (RFC 5322 §2.2.3).
func stripReceived(message string) string {
	rest, ok := strings.CutPrefix(message, "Received: ")
	for ok {
		_, rest, _ = strings.Cut(rest, "\n")
		ok = strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t")
	}
	return rest
}
