package takeover_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
)

func translateGetmail(path string) (*takeover.Config, error) {
	return takeover.Getmail([]string{path}, "/home/me")
}

func TestGetmail(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "")
	checkTestdata(t, "getmail-*.rc", translateGetmail)
}

// What getmail refuses is an error that names the place, but shows no password.
func TestGetmailRefuses(t *testing.T) {
	const (
		pop  = "[retriever]\ntype = SimplePOP3Retriever\nserver = h\nusername = u\npassword = secret\n"
		ssl  = "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = h\nusername = u\npassword = secret\n"
		mbox = "[destination]\ntype = Mboxrd\npath = /mb\n"
	)
	checkRefused(t, translateGetmail, map[string]string{
		"":                                  "has no section [retriever] with a type",
		pop:                                 "has no section [destination] with a type",
		"type = x":                          "line 1 stands before the first section, such as [retriever]",
		"\ufeff" + pop:                      "line 1 stands before the first section, such as [retriever]",
		pop + "secret":                      "line 6 is neither a section nor name = value",
		pop + "= secret":                    "line 6 is neither a section nor name = value",
		pop + "Server: h":                   "line 6: server appears twice in section retriever",
		pop + mbox + pop:                    "line 9: section retriever appears twice",
		pop + "# caf\xe9":                   "line 6 is not UTF-8: iconv makes it so",
		pop + "  secret\n" + mbox:           "line 5: password has a second line: is that line indented by mistake?",
		pop + "port = 0\n" + mbox:           "line 6: port is no port",
		pop + "port = pop3\n" + mbox:        "line 6: port is not a whole number",
		pop + "timeout = 1s\n" + mbox:       "line 6: timeout is not a whole number",
		pop + "use_apop = maybe\n" + mbox:   "line 6: use_apop is neither true nor false",
		"[retriever]\ntype = POP3\n" + mbox: "line 2: type names no retriever that getmail has",
		"[retriever]\ntype = SimplePOP3Retriever\n" + mbox:                                    "section [retriever] has no server",
		ssl + `ssl_fingerprints = ("00", )` + "\n" + mbox:                                     "line 6: ssl_fingerprints holds what is no SHA-256",
		pop + "password_command = (\"a\"\n" + mbox:                                            "line 6: password_command holds more of Python than strings, numbers and tuples of them",
		pop + "password_command = (\"a\")\n" + mbox:                                           `line 6: password_command is not a tuple, such as ("one", "two") or ("one", )`,
		pop + "password_command = pass me\n" + mbox:                                           "line 6: password_command holds more of Python than strings, numbers and tuples of them",
		pop + "password_command = (\"a\" \"b)\n" + mbox:                                       "line 6: password_command lacks a quote at its end",
		pop + "password_command = ((\"a\",),)\n" + mbox:                                       "line 6: password_command is not a tuple of strings",
		pop + "password_command = (open(\"a\"),)\n" + mbox:                                    "line 6: password_command holds more of Python than strings, numbers and tuples of them",
		pop + "password_command = (f\"a\",)\n" + mbox:                                         "line 6: password_command holds more of Python than strings, numbers and tuples of them",
		pop + "password_command = (\"\"\"a\"\"\",)\n" + mbox:                                  "line 6: password_command holds more of Python than strings, numbers and tuples of them",
		pop + "[destination]\ntype = Mbox":                                                    "line 7: type names no destination that getmail has",
		pop + "[destination]\ntype = Mboxrd":                                                  "section [destination] has no path",
		pop + "[destination]\ntype = MultiDestination\ndestinations = ()":                     "section [destination] has no destinations",
		pop + "[destination]\ntype = Maildir\npath = /x":                                      "line 8: path of a Maildir must end with a slash",
		pop + "[destination]\ntype = MultiDestination\ndestinations = ('[x]',)":               "there is no section [x]",
		pop + "[destination]\ntype = MultiDestination\ndestinations = ('x',)":                 "destination x is neither a path nor a section in brackets",
		pop + "[destination]\ntype = MultiDestination\ndestinations = ('[destination]',)":     "section [destination] leads to itself",
		pop + "[destination]\ntype = MultiSorter\ndefault = /x\nlocals = (('a',),)":           "line 9: locals is not a tuple of pairs",
		pop + mbox + "[filter-1]\ntype = Filter_external\npath = /f\nexitcodes_keep = ('a',)": "line 12: exitcodes_keep holds what is no exit code",
		pop + mbox + "[options]\ndelete = 2":                                                  "line 10: delete is neither true nor false",
		strings.Replace(pop, "Simple", "Multidrop", 1) + mbox:                                 "section [retriever] has no envelope_recipient",
	})
}

// Without a path, the files in getmail's folder are read: getmailrc or, if there is none,
// all others. What getmail remembers is there, or beside the file.
func TestGetmailPaths(t *testing.T) {
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", "")
	write := func(folder string, names ...string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(home, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text := "[retriever]\ntype = SimplePOP3Retriever\nserver = h\nusername = u:" + name + "\npassword = p\n" +
				"[destination]\ntype = Maildir\npath = ~/m/\n"
			if err := os.WriteFile(filepath.Join(home, folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := takeover.Getmail(nil, home); err == nil || !strings.Contains(err.Error(), filepath.Join(home, ".getmail")) {
		t.Error(err)
	}
	check := func(paths []string, want string) {
		t.Helper()
		c, err := takeover.Getmail(paths, home)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, a := range c.Accounts {
			got += a.Name + " " + strings.TrimPrefix(a.SeenFile, home) + "\n"
		}
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", paths, got, want)
		}
	}
	write(".getmail", "work", "getmailrc-home", "oldmail-h-110-x", "work~", ".hidden", "tokens.json")
	check(nil, "home /.getmail/oldmail-h-110-u-getmailrc-home\nwork /.getmail/oldmail-h-110-u-work\n")
	write(".getmail", "getmailrc")
	check(nil, "u-getmailrc /.getmail/oldmail-h-110-u-getmailrc\n")
	write(".config/getmail", "getmailrc")
	check(nil, "u-getmailrc /.config/getmail/oldmail-h-110-u-getmailrc\n")
	write("other", "x.rc", "oldmail-h-110-u-x.rc")
	check([]string{filepath.Join(home, "other/x.rc")}, "x /other/oldmail-h-110-u-x.rc\n")
}

// The home folder of another user is looked up.
func TestGetmailOtherHome(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "getmailrc")
	text := "[retriever]\ntype = SimplePOP3Retriever\nserver = h\nusername = u\npassword = p\n" +
		"[destination]\ntype = MultiDestination\ndestinations = ('~" + me.Username + "/x/', )\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := takeover.Getmail([]string{path}, "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Sinks[0].Keys[0].Value, strings.TrimRight(me.HomeDir, "/")+"/x/"; got != want {
		t.Errorf("the Maildir is %s, want %s", got, want)
	}
}

func FuzzGetmail(f *testing.F) {
	for _, path := range testdataFiles(f, "getmail-*.rc") {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	path := filepath.Join(f.TempDir(), "getmailrc")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := takeover.Getmail([]string{path}, "/home/me"); err == nil {
			checkSafe(t, c)
		}
	})
}
