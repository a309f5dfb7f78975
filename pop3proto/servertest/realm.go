package servertest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Realm is the Kerberos realm EXAMPLE.ORG of one test. Its KDC runs on loopback until the
// test ends. It has the principals pop/localhost, with its key in the file pop.keytab, and
// alice, with hers in alice.keytab.
type Realm struct {
	tb  testing.TB
	dir string
	// Env is the environment for Kerberos programs.
	Env []string
}

// NewRealm starts a KDC of MIT Kerberos. If it is not installed, the test ends as in
// Program. Servers that run as other users have access to the realm's files.
func NewRealm(tb testing.TB) *Realm {
	tb.Helper()
	kdc := Program(tb, "krb5kdc")
	dir, err := os.MkdirTemp("", "krb5-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	r := &Realm{tb: tb, dir: dir}
	r.Env = append(os.Environ(), "KRB5_CONFIG="+r.File("krb5.conf"), "KRB5_KDC_PROFILE="+r.File("kdc.conf"), "KRB5RCACHEDIR="+dir)
	r.configure()
	r.Run("kdb5_util", "create", "-s", "-P", "master")
	r.Admin("addprinc -randkey pop/localhost")
	r.Admin("addprinc -randkey alice")
	r.Admin("ktadd -k " + r.File("pop.keytab") + " pop/localhost")
	r.Admin("ktadd -k " + r.File("alice.keytab") + " alice")
	if err := os.Chmod(r.File("pop.keytab"), 0o644); err != nil {
		tb.Fatal(err)
	}
	for range 3 {
		cmd := exec.Command(kdc, "-n")
		cmd.Env = r.Env
		var kill func()
		kill, err = run(cmd, r.File("kdc.out"), func(ctx context.Context) error {
			// A connection alone would prove nothing: another program may have taken
			// the port.
			kinit := exec.CommandContext(ctx, Program(tb, "kinit"), "-k", "-t", r.File("alice.keytab"), "-c", r.File("ready"), "alice")
			kinit.Env = r.Env
			return kinit.Run()
		})
		if err == nil {
			tb.Cleanup(kill)
			return r
		}
		r.configure() // another program may have taken the port
	}
	out, _ := os.ReadFile(r.File("kdc.out"))
	tb.Fatalf("cannot start the KDC: %v\n%s", err, out)
	return nil
}

// configure writes the configuration for a KDC on a free port.
func (r *Realm) configure() {
	r.tb.Helper()
	port, err := freePort()
	if err != nil {
		r.tb.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for name, text := range map[string]string{"krb5.conf": krb5Conf, "kdc.conf": kdcConf} {
		text = strings.NewReplacer("DIR", r.dir, "ADDR", addr).Replace(text)
		if err := errors.Join(os.WriteFile(r.File(name), []byte(text), 0o644), os.Chmod(r.File(name), 0o644)); err != nil {
			r.tb.Fatal(err)
		}
	}
}

// File returns the path of one of the realm's files, such as krb5.conf.
func (r *Realm) File(name string) string { return filepath.Join(r.dir, name) }

// Run runs a Kerberos program, and fails the test if the program fails.
func (r *Realm) Run(program string, args ...string) {
	r.tb.Helper()
	cmd := exec.Command(Program(r.tb, program), args...)
	cmd.Env = r.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.tb.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// Admin runs a query of kadmin on the realm's database.
func (r *Realm) Admin(query string) {
	r.tb.Helper()
	r.Run("kadmin.local", "-q", query)
}

// NewCache creates a credential cache with a ticket for alice, and returns its path. args
// are additional arguments of kinit.
func (r *Realm) NewCache(name string, args ...string) string {
	r.tb.Helper()
	path := r.File(name)
	r.Run("kinit", append(args, "-k", "-t", r.File("alice.keytab"), "-c", path, "alice")...)
	return path
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
