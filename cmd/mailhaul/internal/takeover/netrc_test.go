package takeover_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/takeover"
)

// homeWithNetrc returns a home folder that holds only a .netrc file.
func homeWithNetrc(tb testing.TB, text string) string {
	tb.Helper()
	home := tb.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return home
}

// valueOf returns the value of a key of the only account, nil if it is not set.
func valueOf(tb testing.TB, c *takeover.Config, key string) any {
	tb.Helper()
	if len(c.Accounts) != 1 {
		tb.Fatalf("%d accounts, want 1", len(c.Accounts))
	}
	return mapping(c.Accounts[0].Keys)[key]
}

// A password that mpop has from ~/.netrc is taken from there, as mpop reads it.
func TestNetrcOfMpop(t *testing.T) {
	for netrc, want := range map[string]any{
		"":                                  nil,
		"machine h login u password p":      "p",
		"machine\nh\r\n\tuser u\npasswd p ": "p",
		"machine other login u password x\nmachine h login v password x\nmachine h login u password p": "p",
		"machine h login u account a password p":                                                       "p",
		"machine h login u\n# password x\npassword p # password y":                                     "p",
		"macdef m\nmachine h login u password x\n\nmachine h login u password p":                       "p",
		"machine h login u password p\nmachine h login u password q":                                   "p",
		`machine h login u password 'p q'" r"\s`:                                                       `p q r\s`,
		"machine h login u password \"p\nlogin v":                                                      nil,
		"default login u password p":                                                                   nil,
		"machine h password p":                                                                         nil,
		"machine h login u":                                                                            nil,
		"login u password p":                                                                           nil,
		"machine H login u password p":                                                                 nil,
		"machine h login u password p\xe9":                                                             nil,
		"machine h login u password":                                                                   nil,
	} {
		home := homeWithNetrc(t, netrc)
		rc := filepath.Join(home, ".mpoprc")
		if err := os.WriteFile(rc, []byte("account a\nhost h\nuser u\ndelivery mbox /m\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := takeover.Mpop("", home)
		if err != nil {
			t.Fatal(err)
		}
		if got := valueOf(t, c, "password"); got != want {
			t.Errorf("%q: the password is %v, want %v", netrc, got, want)
		}
		if c.Accounts[0].Disabled != (want == nil) {
			t.Errorf("%q: disabled is %t", netrc, c.Accounts[0].Disabled)
		}
	}
}

// fetchmail looks for the name of the server, and then for its address.
func TestNetrcOfFetchmail(t *testing.T) {
	for netrc, want := range map[string]any{
		"machine label login u password p":                                            "p",
		"machine pop.example.org login u password p":                                  "p",
		"machine pop.example.org login u password x machine label login u password p": "p",
		"machine label login v password x":                                            nil,
	} {
		const rc = "poll label via pop.example.org proto pop3 user u mda cat"
		c, err := takeover.Fetchmail(fetchmailDump(t, rc), homeWithNetrc(t, netrc))
		if err != nil {
			t.Fatal(err)
		}
		if got := valueOf(t, c, "password"); got != want {
			t.Errorf("%q: the password is %v, want %v", netrc, got, want)
		}
	}
}

// getmail reads a .netrc file only if told to. Then that counts more than its own file.
func TestNetrcOfGetmail(t *testing.T) {
	const use = "[options]\nuse_netrc = true\n"
	for _, tt := range []struct {
		netrc, retriever, options string
		user, password            any
	}{
		{"machine h login u password p", "", "", nil, nil},
		{"machine h login u password p", "", use, "u", "p"},
		{"machine h login u password p", "username = v\npassword = x\n", use, "u", "p"},
		{"machine h password p", "username = v\npassword = x\n", use, "v", "p"},
		{"machine other login u password p", "username = v\npassword = x\n", use, "v", "x"},
		{"machine h login u password p\ndefault login x password x", "", use, "u", "p"},
		{"default login u password p\nmachine other login x password x", "", use, "u", "p"},
		{"machine h login x password x\nmachine h login u password p", "", use, "u", "p"},
		{"machine h login u password #p\\ \\\"q'", "", use, "u", `#p "q'`},
		{"machine h login u password \"p\\\"\nq\"", "", use, "u", nil}, // a line break
		{"", "username = v\npassword = x\n", use + "netrc_file = ~/other\n", "v", "x"},
		{"", "", use + "netrc_file = ~/.netrc\n", nil, nil},
	} {
		home := homeWithNetrc(t, tt.netrc)
		rc := filepath.Join(home, "rc")
		text := "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = h\n" + tt.retriever +
			"[destination]\ntype = Mboxrd\npath = /m\n" + tt.options
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := takeover.Getmail([]string{rc}, home)
		if err != nil {
			t.Fatal(err)
		}
		if user, password := valueOf(t, c, "user"), valueOf(t, c, "password"); user != tt.user || password != tt.password {
			t.Errorf("%+v: got %v, %v", tt, user, password)
		}
		wantSeen := filepath.Join(home, ".getmail", fmt.Sprintf("oldmail-h-995-%s", orEmpty(tt.user)))
		if got := c.Accounts[0].SeenFile; got != wantSeen {
			t.Errorf("%+v: it remembers in %s, want %s", tt, got, wantSeen)
		}
	}
}

func orEmpty(v any) string {
	s, _ := v.(string)
	return s
}

// No .netrc file makes a translator fail, or run what a stranger wrote.
func FuzzNetrc(f *testing.F) {
	f.Add("machine h login u password 'p' # c\nmacdef m\nx\n\ndefault login \"u\\\"\"")
	home := homeWithNetrc(f, "")
	mpoprc, getmailrc := filepath.Join(home, ".mpoprc"), filepath.Join(home, "rc")
	for path, text := range map[string]string{
		mpoprc: "account a\nhost h\nuser u\ndelivery mbox /m\n",
		getmailrc: "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = h\n[destination]\ntype = Mboxrd\npath = /m\n" +
			"[options]\nuse_netrc = true\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, netrc string) {
		if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(netrc), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func() (*takeover.Config, error){
			func() (*takeover.Config, error) { return takeover.Mpop(mpoprc, home) },
			func() (*takeover.Config, error) { return takeover.Getmail([]string{getmailrc}, home) },
		} {
			c, err := read()
			if err != nil {
				t.Fatal(err)
			}
			checkSafe(t, c)
			checkAccepted(t, c)
		}
	})
}
