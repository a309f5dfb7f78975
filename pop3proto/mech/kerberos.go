package mech

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Kerberos tells where GSSAPI and KPOP find a ticket. The zero value means the user's
// credential cache, which kinit fills.
type Kerberos struct {
	// Config is the path of krb5.conf. If it is empty, it is that of the
	// environment variable KRB5_CONFIG, or else /etc/krb5.conf.
	Config string
	// Keytab is the path of a keytab with a key of Principal. If it is empty, the
	// ticket comes from Cache.
	Keytab string
	// Principal is the name in Keytab to log in with, name@REALM. The default realm
	// is that of krb5.conf, and the default name is the user to log in.
	Principal string
	// Cache is the path of a credential cache, which must be a file. If it is empty,
	// it is that of the environment variable KRB5CCNAME, or else /tmp/krb5cc_UID.
	Cache string
}

// ticket is a ticket for a service with what is needed to use it.
type ticket struct {
	messages.Ticket
	key   types.EncryptionKey // shared with the service
	realm string              // the client's
	cname types.PrincipalName // the client's
}

// ticketTimeout limits how long to try the KDCs: gokrb5 waits 5 seconds for each
// reply, and krb5.conf may name many KDCs.
const ticketTimeout = 30 * time.Second

var errKDC = errors.New("no KDC answers")

// getTicket returns a ticket for service, such as pop/mail.example.org. It may ask the
// KDCs of krb5.conf.
func (k Kerberos) getTicket(ctx context.Context, service, user string) (ticket, error) {
	limited, cancel := context.WithTimeout(ctx, ticketTimeout)
	defer cancel()
	type result struct {
		ticket
		err error
	}
	// gokrb5 takes no context: when ctx ends, the goroutine stays behind until
	// gokrb5's own timeouts, some seconds later.
	done := make(chan result, 1)
	go func() {
		t, err := k.requestTicket(service, user)
		done <- result{t, err}
	}()
	select {
	case r := <-done:
		return r.ticket, r.err
	case <-limited.Done():
		if ctx.Err() != nil {
			return ticket{}, context.Cause(ctx)
		}
		return ticket{}, errKDC
	}
}

// requestTicket is getTicket without a timeout.
func (k Kerberos) requestTicket(service, user string) (t ticket, err error) {
	// gokrb5 may panic when it parses a malformed reply. That must not end the
	// program.
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the KDC's answer makes no sense")
		}
	}()
	cl, err := k.client(user)
	if err != nil {
		return ticket{}, err
	}
	defer cl.Destroy()
	tkt, key, err := cl.GetServiceTicket(service)
	if err != nil {
		return ticket{}, fmt.Errorf("no Kerberos ticket for %s: %w", service, err)
	}
	return ticket{tkt, key, cl.Credentials.Domain(), cl.Credentials.CName()}, nil
}

// client returns a client with the credentials of the keytab or the cache.
func (k Kerberos) client(user string) (*client.Client, error) {
	file := cmp.Or(k.Config, os.Getenv("KRB5_CONFIG"), "/etc/krb5.conf")
	conf, err := config.Load(file)
	// gokrb5 ignores directives of krb5.conf that it does not support.
	if _, unsupported := errors.AsType[config.UnsupportedDirective](err); err != nil && !unsupported {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if k.Keytab == "" {
		return k.clientFromCache(conf)
	}
	return k.clientFromKeytab(conf, user)
}

// clientFromKeytab logs in with a key of the keytab.
func (k Kerberos) clientFromKeytab(conf *config.Config, user string) (*client.Client, error) {
	kt, err := keytab.Load(k.Keytab)
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return nil, fmt.Errorf("%w cannot be read: %w", errKeytab, err)
	}
	// gokrb5's error for a truncated keytab contains its keys: do not wrap it.
	if err != nil || len(kt.Entries) == 0 {
		return nil, fmt.Errorf("%w %s is damaged, or has no key in it", errKeytab, k.Keytab)
	}
	name, realm, ok := strings.Cut(cmp.Or(k.Principal, user), "@")
	if !ok {
		realm = conf.LibDefaults.DefaultRealm
	}
	cl := client.NewWithKeytab(name, realm, kt, conf, client.DisablePAFXFAST(true))
	if err := cl.Login(); err != nil {
		return nil, fmt.Errorf("Kerberos login of %s@%s from the keytab: %w", name, realm, err)
	}
	return cl, nil
}

// clientFromCache uses the tickets of the credential cache.
func (k Kerberos) clientFromCache(conf *config.Config) (cl *client.Client, err error) {
	file := cmp.Or(k.Cache, os.Getenv("KRB5CCNAME"), fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid()))
	kind, path, ok := strings.Cut(file, ":")
	if !ok {
		path = file
	} else if kind != "FILE" {
		return nil, fmt.Errorf("%w %s is not a file: set KRB5CCNAME=FILE:/path", errCache, file)
	}
	// gokrb5 panics on a truncated cache, as one is while kinit writes it. That
	// must not end the program.
	defer func() {
		if recover() != nil {
			cl, err = nil, fmt.Errorf("%w %s is damaged", errCache, path)
		}
	}()
	cache, err := credentials.LoadCCache(path)
	if err != nil {
		return nil, fmt.Errorf("%w cannot be read: %w", errCache, err)
	}
	realm := cache.DefaultPrincipal.Realm
	tgt, ok := cache.GetEntry(types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", realm}})
	if ok && time.Now().After(tgt.EndTime) {
		return nil, fmt.Errorf("%w %s holds a ticket that expired on %s", errCache, path, tgt.EndTime.Local().Format(time.DateTime))
	}
	if cl, err = client.NewFromCCache(cache, conf, client.DisablePAFXFAST(true)); err != nil {
		return nil, fmt.Errorf("%w %s: %w", errCache, path, err)
	}
	return cl, nil
}
