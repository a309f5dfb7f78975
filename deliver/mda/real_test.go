package mda_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/delivertest"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
	"github.com/mailhaul/mailhaul/testdata"
)

// home returns an empty folder that user uid may write to.
func home(t *testing.T, uid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mda-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, uid); err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	err := os.WriteFile(name, []byte(text), mode)
	if err == nil {
		err = os.Chmod(name, mode) // a program that another test starts has a umask for a moment
	}
	if err != nil {
		t.Fatal(err)
	}
}

// arrive delivers the messages that come with the tests and compares what is
// in the Maildir after that. canon makes the changes that the agent makes.
func arrive(t *testing.T, o mda.Options, maildir string, canon func(string) string) {
	t.Helper()
	messages, err := testdata.All()
	if err != nil {
		t.Fatal(err)
	}
	var files, wire []string
	missing := map[string]string{}
	for name, text := range messages {
		files = append(files, name)
		wire = append(wire, strings.ReplaceAll(text, "\n", "\r\n"))
		missing[canon(text)] = name
	}
	receipts, err := deliverAll(t, open(t, o), wire...)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range receipts {
		if err != nil {
			t.Errorf("%s: %v", files[i], err)
		}
	}
	names, err := filepath.Glob(filepath.Join(maildir, "new", "*"))
	if err != nil || len(names) != len(files) {
		t.Errorf("%d messages of %d are there, %v", len(names), len(files), err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if missing[string(b)] == "" {
			t.Errorf("not what was sent: %.200q", b)
		}
		delete(missing, string(b))
	}
	for _, name := range missing {
		t.Errorf("%s did not arrive as it is", name)
	}
}

func TestMaildrop(t *testing.T) {
	t.Parallel()
	program := servertest.Program(t, "maildrop")
	dir := home(t, os.Getuid())
	maildir, filter := filepath.Join(dir, "Maildir"), filepath.Join(dir, "filter")
	for _, sub := range []string{"", "new", "cur", "tmp"} {
		if err := os.Mkdir(filepath.Join(maildir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filter, fmt.Sprintf("to \"%s\"\n", maildir), 0o600)
	arrive(t, mda.Options{Argv: []string{program, filter}}, maildir, func(message string) string {
		return strings.TrimSuffix(message, "\n") + "\n" // it ends the last line
	})
}

// What maildrop's filters decide is what we report.
func TestMaildropExitCodes(t *testing.T) {
	t.Parallel()
	program := servertest.Program(t, "maildrop")
	dir := home(t, os.Getuid())
	filter := filepath.Join(dir, "filter")
	for _, test := range []struct {
		text string
		want deliver.Fault
	}{
		{"echo \"we want no such mail\"\nEXITCODE=77\nexit\n", deliver.FaultMessage},
		{"to \"" + dir + "/no such folder/x\"\n", deliver.FaultTemporary},
		{"if (\n", deliver.FaultTemporary},
	} {
		write(t, filter, test.text, 0o600)
		receipts, err := deliverAll(t, open(t, mda.Options{Argv: []string{program, filter}}), "Subject: x\r\n\r\nx\r\n")
		if err != nil || len(receipts) != 1 || delivertest.FaultOf(receipts[0]) != test.want {
			t.Errorf("%q: %v, %v", test.text, receipts, err)
		}
	}
}

func TestDovecotLDA(t *testing.T) {
	t.Parallel()
	program := servertest.Program(t, "/usr/lib/dovecot/dovecot-lda")
	// It delivers to the user who runs it, and to root not at all.
	argv, uid := []string{"env"}, os.Getuid()
	if uid == 0 {
		uid = 65534
		argv = []string{servertest.Program(t, "setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "env"}
	}
	dir := home(t, uid)
	config := filepath.Join(dir, "conf")
	text := `
base_dir = DIR/run
log_path = DIR/log
mail_location = maildir:DIR/Maildir
mail_uid = UID
mail_gid = UID
first_valid_uid = 1
postmaster_address = postmaster@example.org
hostname = localhost
stats_writer_socket_path =
`
	write(t, config, strings.NewReplacer("DIR", dir, "UID", fmt.Sprint(uid)).Replace(text), 0o644)
	argv = append(argv, "HOME="+dir, "USER=nobody", program, "-c", config, "-f", "{sender}")
	arrive(t, mda.Options{Argv: argv}, filepath.Join(dir, "Maildir"), func(message string) string {
		return strings.ReplaceAll(message, "\r\n", "\n")
	})
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Logf("the log:\n%s", log)
	}
}
