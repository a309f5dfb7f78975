package pop3proto_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// realm is a Kerberos realm of its own, with a KDC on loopback.
type realm struct {
	t   *testing.T
	dir string
	env []string
}

// file returns the path of one of the realm's files.
func (r realm) file(name string) string { return filepath.Join(r.dir, name) }

// newRealm starts a KDC that knows alice and the POP3 server on localhost.
// The folder is open to Dovecot's own user.
func newRealm(t *testing.T) realm {
	t.Helper()
	for _, program := range []string{"/usr/sbin/krb5kdc", "/usr/sbin/kadmin.local", "/usr/bin/kinit", "/usr/lib/dovecot/modules/auth/libmech_gssapi.so"} {
		if _, err := os.Stat(program); err != nil {
			if os.Getenv("MAILHAUL_REQUIRE_SERVERS") == "1" || os.Getenv("CI") != "" {
				t.Fatalf("%s is missing; run .ci/deps", program)
			}
			t.Skipf("NOT TESTED: %s is missing; run .ci/deps to install it", program)
		}
	}
	dir, err := os.MkdirTemp("", "krb5-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := realm{t: t, dir: dir}
	r.env = append(os.Environ(), "KRB5_CONFIG="+r.file("krb5.conf"), "KRB5_KDC_PROFILE="+r.file("kdc.conf"))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for name, text := range map[string]string{"krb5.conf": krb5Conf, "kdc.conf": kdcConf} {
		text = strings.NewReplacer("DIR", dir, "ADDR", addr).Replace(text)
		if err := os.WriteFile(r.file(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.run("/usr/sbin/kdb5_util", "create", "-s", "-P", "master")
	r.admin("addprinc -randkey pop/localhost")
	r.admin("addprinc -randkey alice")
	r.admin("ktadd -k " + r.file("pop.keytab") + " pop/localhost")
	r.admin("ktadd -k " + r.file("alice.keytab") + " alice")
	if err := os.Chmod(r.file("pop.keytab"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.serve(addr)
	return r
}

func (r realm) run(argv ...string) {
	r.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func (r realm) admin(query string) { r.run("/usr/sbin/kadmin.local", "-q", query) }

// serve runs the KDC until the test ends.
func (r realm) serve(addr string) {
	r.t.Helper()
	log, err := os.Create(r.file("kdc.out"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("/usr/sbin/krb5kdc", "-n")
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env, log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is told to end
	}()
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		<-ended
	})
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			out, _ := os.ReadFile(log.Name())
			r.t.Fatalf("the KDC does not run: %s", out)
		case <-retry.C:
		}
	}
}

const krb5Conf = `
[libdefaults]
  default_realm = EXAMPLE.ORG
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  EXAMPLE.ORG = {
    kdc = ADDR
  }
[domain_realm]
  localhost = EXAMPLE.ORG
`

const kdcConf = `
[kdcdefaults]
  kdc_listen = ADDR
  kdc_tcp_listen = ADDR
[realms]
  EXAMPLE.ORG = {
    database_name = DIR/principal
    key_stash_file = DIR/stash
    acl_file = DIR/acl
  }
[logging]
  kdc = FILE:DIR/kdc.log
`

// TestRealServerGSSAPI logs in on Dovecot with tickets of a real KDC, from a
// keytab and from a credential cache.
func TestRealServerGSSAPI(t *testing.T) {
	r := newRealm(t)
	cache := r.file("cache")
	r.run("/usr/bin/kinit", "-k", "-t", r.file("alice.keytab"), "-c", cache, "alice")
	const user = "alice@example.org"
	s := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"gssapi"},
		Config: fmt.Sprintf("auth_krb5_keytab = %s\nauth_gssapi_hostname = localhost\nimport_environment = TZ KRB5_CONFIG=%s\n",
			r.file("pop.keytab"), r.file("krb5.conf")),
	})
	s.AddUser(user, "unused")
	t.Setenv("KRB5_CONFIG", r.file("krb5.conf"))
	t.Setenv("KRB5CCNAME", "FILE:"+cache)

	for name, cred := range map[string]mech.Credentials{
		"keytab":              {User: "alice", Kerberos: mech.Kerberos{Keytab: r.file("alice.keytab")}},
		"keytab, whole name":  {Kerberos: mech.Kerberos{Keytab: r.file("alice.keytab"), Principal: "alice@EXAMPLE.ORG"}},
		"cache":               {Kerberos: mech.Kerberos{Config: r.file("krb5.conf"), Cache: cache}},
		"cache of KRB5CCNAME": {},
		"with an authzid":     {Authzid: "alice@EXAMPLE.ORG"},
	} {
		for _, twoSteps := range []bool{false, true} {
			c := secure(t, s.TLSAddr, s.TLSConfig(), nil)
			cred.Host = "localhost"
			m := newMech(t, "gssapi", c, cred)
			if twoSteps {
				m = mech.WithoutInitialResponse(m)
			}
			if err := c.Authenticate(t.Context(), m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := c.Quit(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}

	t.Run("another user's mail", func(t *testing.T) {
		s.AddUser("bob@example.org", "unused")
		c := secure(t, s.TLSAddr, s.TLSConfig(), nil)
		err := c.Authenticate(t.Context(), newMech(t, "gssapi", c, mech.Credentials{Authzid: "bob@EXAMPLE.ORG", Host: "localhost"}))
		var refused *pop3proto.ReplyError
		if !errors.As(err, &refused) {
			t.Errorf("error %v", err)
		}
	})

	t.Run("no ticket", func(t *testing.T) {
		cut := r.file("cut")
		whole, err := os.ReadFile(cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			cred mech.Credentials
			want string
		}{
			"no such cache":     {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: r.file("none")}}, "run kinit"},
			"damaged cache":     {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: cut}}, "run kinit"},
			"cache of a kernel": {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Cache: "KEYRING:x"}}, "not a file"},
			"no such service":   {mech.Credentials{Host: "elsewhere"}, "pop/elsewhere"},
			"no such keytab":    {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Keytab: r.file("none")}}, "keytab"},
			"not in the keytab": {mech.Credentials{Host: "localhost", User: "bob", Kerberos: mech.Kerberos{Keytab: r.file("alice.keytab")}}, "bob@EXAMPLE.ORG"},
			"no krb5.conf":      {mech.Credentials{Host: "localhost", Kerberos: mech.Kerberos{Config: r.file("none")}}, "none"},
		} {
			_, err := mech.New("gssapi", test.cred)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want %q in it", name, err, test.want)
			}
		}
	})
}
