package oauth_test

import (
	"errors"
	"net"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
	"github.com/mailhaul/mailhaul/pop3proto/servertest"
)

// A real server accepts a token, which it verifies with the provider. It refuses a token
// that was revoked.
func TestDovecot(t *testing.T) {
	p, c := startProvider(t, oauthtest.Options{User: mailbox, Rotate: true})
	server := servertest.Dovecot(t, servertest.DovecotOptions{
		Mechanisms: []string{"xoauth2", "oauthbearer"}, Introspect: p.URL + "/introspect",
	})
	server.AddUser(mailbox, "unused")
	server.AddMessages(mailbox, []byte("Subject: hello\n\nHello.\n"))

	store := oauth.NewStore(t.TempDir())
	var page <-chan string
	g, err := c.Browser(t.Context(), func(address string) error {
		page = browseInBackground(t, address)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-page
	if err := store.Save(t.Context(), c, g); err != nil {
		t.Fatal(err)
	}
	access := token(t, oauth.NewSource(c, store))

	for _, name := range []string{"xoauth2", "oauthbearer"} {
		t.Run(name, func(t *testing.T) {
			client, err := authenticate(t, server, name, access)
			if err != nil {
				t.Fatal(err)
			}
			list, err := client.List(t.Context())
			if err != nil || len(list.Entries) != 1 {
				t.Errorf("listed %+v, error %v", list, err)
			}
		})
	}

	p.Revoke()
	for _, name := range []string{"xoauth2", "oauthbearer"} {
		t.Run(name+" withdrawn", func(t *testing.T) {
			_, err := authenticate(t, server, name, access)
			var refused *pop3proto.ReplyError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			checkNoSecrets(t, p, err.Error())
		})
	}
}

// authenticate logs in with a token.
func authenticate(t *testing.T, server *servertest.Server, mechanism, access string) (*pop3proto.Client, error) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	client, err := pop3proto.NewClient(t.Context(), conn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	m, err := mech.New(t.Context(), mechanism, mech.Credentials{User: mailbox, Token: access})
	if err != nil {
		t.Fatal(err)
	}
	return client, client.Authenticate(t.Context(), m)
}
