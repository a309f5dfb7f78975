package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// An account logs in to Dovecot by every mechanism, in the clear and over TLS, and by the
// strongest one if auth names none.
func TestDovecotMechanisms(t *testing.T) {
	const token = "a-token-for-alice"
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"active": %t, "username": "alice@example.org"}`, r.FormValue("token") == token)
	}))
	defer provider.Close()
	k := servertest.NewRealm(t)
	all := []string{
		"gssapi", "scram-sha-256", "scram-sha-1", "oauthbearer", "xoauth2", "plain", "login", "user", "cram-md5", "digest-md5", "apop",
	}
	s := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "user" }),
		Introspect: provider.URL,
		Config: fmt.Sprintf("auth_krb5_keytab = %s\nauth_gssapi_hostname = localhost\nimport_environment = TZ KRB5_CONFIG=%s\n",
			k.File("pop.keytab"), k.File("krb5.conf")),
	})
	s.AddUser("alice@example.org", secret)
	give := map[mech.Proof]func(*fetch.Account){
		mech.Token: func(a *fetch.Account) {
			a.Secret, a.Token = nil, func(context.Context) (string, error) { return token, nil }
		},
		mech.Ticket: func(a *fetch.Account) {
			a.Secret, a.Kerberos = nil, &mech.Kerberos{Config: k.File("krb5.conf"), Keytab: k.File("alice.keytab"), Principal: "alice"}
		},
		mech.Password: func(*fetch.Account) {},
	}
	login := func(t *testing.T, security fetch.Security, auth []string, needs mech.Proof, want string) {
		r, _ := newRealRig(t, s, "alice@example.org", security, [][]byte{[]byte("Subject: hello\n\nHello.\n")})
		r.account.Auth = auth
		give[needs](r.account)
		got := r.mustPoll()
		if in := eventsOf[fetch.LoggedIn](r); got.Fetched != 1 || len(in) != 1 || in[0].Mechanism != want {
			t.Errorf("fetched %d, logged in by %+v, want %s", got.Fetched, in, want)
		}
	}
	for _, name := range all {
		needs := mech.Password
		for _, m := range mech.Strongest(true) {
			if m.Name == name {
				needs = m.Needs
			}
		}
		t.Run(name, func(t *testing.T) {
			login(t, fetch.PlainText, []string{name}, needs, name)
			login(t, fetch.ImplicitTLS, []string{name}, needs, name)
		})
	}
	for needs, want := range map[mech.Proof]string{mech.Password: "scram-sha-256", mech.Token: "oauthbearer", mech.Ticket: "gssapi"} {
		t.Run("auto with a "+string(needs), func(t *testing.T) { login(t, fetch.StartTLS, nil, needs, want) })
	}

	t.Run("a token that is not good", func(t *testing.T) {
		for _, name := range []string{"oauthbearer", "xoauth2"} {
			r, _ := newRealRig(t, s, "alice@example.org", fetch.ImplicitTLS, nil)
			r.account.Auth, r.account.Secret = []string{name}, nil
			r.account.Token = func(context.Context) (string, error) { return "not-" + token, nil }
			got := r.poll()
			if got.Class != fetch.ClassOperator || !strings.Contains(fetch.Hint(got.Err), "mailhaul login") || strings.Contains(got.Err.Error(), token) {
				t.Errorf("%s: %v: %v (%q)", name, got.Class, got.Err, fetch.Hint(got.Err))
			}
		}
	})
}

// A poll that waits for a KDC in vain ends when it is cancelled, and no person is called.
func TestSilentKDC(t *testing.T) {
	k := servertest.NewRealm(t)
	s := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"gssapi"},
		Config: fmt.Sprintf("auth_krb5_keytab = %s\nauth_gssapi_hostname = localhost\nimport_environment = TZ KRB5_CONFIG=%s\n",
			k.File("pop.keytab"), k.File("krb5.conf")),
	})
	asked := make(chan struct{}, 1)
	conf := silentKDC(t, asked)
	r, _ := newRealRig(t, s, "alice@example.org", fetch.ImplicitTLS, nil)
	r.account.Secret = nil
	r.account.Kerberos = &mech.Kerberos{Config: conf, Keytab: k.File("alice.keytab"), Principal: "alice"}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if got := r.account.Poll(ctx, r.opts); got.Class != fetch.ClassRetry || !errors.Is(got.Err, fetch.ErrCutShort) {
		t.Errorf("%v: %v", got.Class, got.Err)
	}
}

// silentKDC writes a krb5.conf whose KDC takes requests and never answers. It sends to
// asked at the first one.
func silentKDC(t *testing.T, asked chan<- struct{}) (conf string) {
	t.Helper()
	addr := listen(t, func(net.Conn) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-t.Context().Done()
	})
	conf = filepath.Join(t.TempDir(), "krb5.conf")
	check(t, os.WriteFile(conf, fmt.Appendf(nil, "[libdefaults]\n default_realm = EXAMPLE.ORG\n dns_lookup_kdc = false\n udp_preference_limit = 1\n"+
		"[realms]\n EXAMPLE.ORG = {\n  kdc = %s\n }\n", addr), 0o600))
	return conf
}
