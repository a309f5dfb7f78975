package takeover_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// fetchmailDump returns what fetchmail --configdump prints for a fetchmailrc.
func fetchmailDump(t *testing.T, rc string) string {
	t.Helper()
	fetchmail, path := servertest.Program(t, "fetchmail"), filepath.Join(t.TempDir(), "fetchmailrc")
	if err := os.WriteFile(path, []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := exec.Command(fetchmail, "--fetchmailrc", path, "--configdump")
	c.Env = append(os.Environ(), "FETCHMAILHOME="+t.TempDir())
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", fetchmail, err, errs.Bytes())
	}
	return out.String()
}

// fetchmailrc has all that the manual of fetchmail allows: noise words, quotes, escapes,
// comments, defaults, several users of a server.
const fetchmailrc = `# a comment with ' and "
set daemon 300
set idfile "/home/me/.fetchids"
set syslog
set invisible
defaults proto pop3, uidl, timeout 90
skip old.example.org: user x pass x is me here
poll label via "pop.example.net" service 1995 with interval 2 plugin "ssh gw nc %h %p":
	user 'ann@example.net' there has password "a b\x22\\#'" and is ann here, wants ssl keep limit 102400
	expunge 100 mda "/usr/bin/procmail -f '%F' -d %T" sslcertck sslcommonname mail.example.net preconnect "true"
	user "car ol" there, with pass 's$HOME{' is carl here ssl fetchlimit 10 dropstatus no sslcertck
	mda 'sh -c "deliver ${X:-%F}"'
poll pop.example.com
	user ann@example.net pass p is ann here smtphost localhost/2525, b.example.com
	user bob pass p is carol=bob here sslproto '' lmtp smtphost /run/lmtp nokeep fetchall postconnect "date >>~/polls"
	user dan pass "däeßn" is dan here options smtpaddress example.com
	user eve is eve here sslproto "TLS1.2+" mda "spamc | procmail -f %F -d %T" keep fetchall limit 100000 limitflush flush
	user fay pass p is fay here bsmtp /tmp/fay
	user all pass p is ann carol=bob * here
	user "gün" pass p is gün here
poll apop.example.com proto apop user gus pass p is gus here mda "ssh mx deliver %F %T" antispam 571 550
poll krb.example.com auth gssapi plugout "ssh gw nc %h %p" user hal pass p is hal here smtpname h@example.org smtphost mx.example.org
poll md5.example.com auth cram-md5 user ida pass "*p: #" is ida here sslproto ssl3+
poll ntlm.example.com auth ntlm port 995 user kim pass p is kim here ssl sslproto "tls1.3+" sslfingerprint "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"
poll kpop.example.com proto kpop user leo pass p is leo here
poll imap.example.com proto imap user jim pass p is jim here
`

// What fetchmail prints of its configuration becomes one of mailhaul.
func TestFetchmail(t *testing.T) {
	c, err := takeover.Fetchmail(fetchmailDump(t, fetchmailrc), "/home/me")
	if err != nil {
		t.Fatal(err)
	}
	checkYAML(t, "fetchmail.txt", c)
}

// Paths are the same as for fetchmail; a $ in one begins no variable.
func TestFetchmailFiles(t *testing.T) {
	c, err := takeover.Fetchmail(fetchmailDump(t, `poll pop.example.com proto pop3 user ida pass p ssl
		sslcertfile "/etc/$x/ca.pem" sslcertpath /etc/certs sslcert /home/me/me.pem sslkey /home/me/me.key`), "/home/me")
	if err != nil {
		t.Fatal(err)
	}
	text := c.YAML("fetchmail")
	for _, want := range []string{
		`tls_ca: "/etc/$$x/ca.pem"`, "tls_cert: /home/me/me.pem", "tls_key: /home/me/me.key", "# sslcertpath: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

// The error for a malformed dump has the line, but not its text, which may be a password.
func TestFetchmailRefused(t *testing.T) {
	for dump, want := range map[string]string{
		"":                                           "there is no fetchmailrc in it",
		"set daemon 300\npoll x\n":                   "line 1 ",
		"TRUE=1\nfetchmailrc = {'a': secret}":        "line 2 ",
		"fetchmailrc = {'a': [1,\n(2 3)]}":           "line 2 ",
		"fetchmailrc = {'a': 'b\nc'}":                "line 1 ",
		"fetchmailrc = {1: 2}":                       "line 1 ",
		"fetchmailrc = {'a': \"\\q\"}":               "line 1 ",
		"fetchmailrc = {'a': \"\\400\"}":             "line 1 ",
		"fetchmailrc = {'a': 'b":                     "line 1 ",
		"fetchmailrc = {'a': \"\\0x?3\" \"}":         "garbles letters that are not ASCII",
		"fetchmailrc = " + strings.Repeat("[", 1000): "line 1 ",
		"import os":                                  "line 1 ",
		"fetchmailrc = 99999999999999999999":         "line 1 ",
	} {
		_, err := takeover.Fetchmail(dump, "/home/me")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", dump, err, want)
		}
	}
}

// Whatever the dump holds, the file is YAML with the values of Config.
func FuzzDump(f *testing.F) {
	f.Add("# c\nTRUE=1; FALSE=0\nfetchmailrc = {'poll_interval':300, 'servers': [{'pollname':'p', 'active':TRUE, 'protocol':'POP3', 'users': [" +
		"{'remote':\"a\\\"\\x41\\101\\n\", 'password':\"\\0x?3p\", 'localnames':[('a','b'),], 'mda':'sh %F', 'limit':-1}\n\t,\t]}]}")
	f.Add(`fetchmailrc = {"servers": [{"protocol":"APOP", "active":TRUE, 'users': [{"remote":"~", "localnames":["*"]}, {"remote":"~"}]}]}`)
	f.Add(`fetchmailrc = {"servers": [{"protocol":"APOP", "active":TRUE, 'users': [{"remote":"~", "localnames":["a"]}, {"remote":"b", "password":"#", "localnames":["a"]}]}]}`)
	f.Fuzz(func(t *testing.T, dump string) {
		c, err := takeover.Fetchmail(dump, "/home/me")
		if err != nil {
			return
		}
		var file struct {
			Sinks, Accounts map[string]map[string]yaml.Node
			Defaults        map[string]yaml.Node
		}
		text := c.YAML("fetchmail")
		if err := yaml.Unmarshal([]byte(text), &file); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		enabled := 0
		for _, a := range c.Accounts {
			if a.Disabled {
				continue
			}
			enabled++
			for _, k := range a.Keys {
				written, ok := file.Accounts[a.Name][k.Name]
				if !ok {
					written = file.Defaults[k.Name]
				}
				if text, ok := k.Value.(string); ok && written.Value != text {
					t.Errorf("%s is not %q in\n%s", k.Name, k.Value, c.YAML("fetchmail"))
				}
			}
		}
		if len(file.Sinks) != len(c.Sinks) || len(file.Accounts) != enabled {
			t.Errorf("%d sinks and %d accounts, want %d and %d, in\n%s", len(file.Sinks), len(file.Accounts), len(c.Sinks), enabled, text)
		}
	})
}
