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

// Kerberos is where GSSAPI finds a ticket. The zero value takes the user's
// credential cache, as kinit fills it.
type Kerberos struct {
	// Config is the path of krb5.conf. If it is empty, KRB5_CONFIG says where
	// it is, and else it is /etc/krb5.conf.
	Config string
	// Keytab is the path of a keytab with a key of Principal. If it is empty,
	// Cache is used.
	Keytab string
	// Principal is the name to log in with from a keytab, name@REALM. Without
	// a realm it is of krb5.conf's default realm. If it is empty, it is
	// Credentials.User.
	Principal string
	// Cache is the path of a credential cache. If it is empty, KRB5CCNAME says
	// where it is, and else it is /tmp/krb5cc_ and the user's number. It must
	// be a file.
	Cache string
}

// ticket is a ticket for a service with what comes along.
type ticket struct {
	messages.Ticket
	key   types.EncryptionKey // shared with the service
	realm string              // the client's
	cname types.PrincipalName // the client's
}

// ticketLimit bounds the talk with the KDCs: gokrb5 waits 5 seconds for each
// answer, and krb5.conf may name many.
const ticketLimit = 30 * time.Second

var errKDC = errors.New("no KDC answers")

// ticket returns a ticket for service, such as pop/mail.example.org. It may
// ask the KDCs of krb5.conf.
func (k Kerberos) ticket(ctx context.Context, service, user string) (ticket, error) {
	limited, cancel := context.WithTimeout(ctx, ticketLimit)
	defer cancel()
	type answer struct {
		ticket
		err error
	}
	// gokrb5 knows no context. What it still waits for when ctx is over, it
	// waits for by itself, for seconds.
	done := make(chan answer, 1)
	go func() {
		t, err := k.ask(service, user)
		done <- answer{t, err}
	}()
	select {
	case a := <-done:
		return a.ticket, a.err
	case <-limited.Done():
		if ctx.Err() != nil {
			return ticket{}, context.Cause(ctx)
		}
		return ticket{}, errKDC
	}
}

// ask is ticket, without a bound.
func (k Kerberos) ask(service, user string) (t ticket, err error) {
	// What a KDC sends is parsed by gokrb5, which may read beyond its end. That
	// must not end everybody's mail.
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

func (k Kerberos) client(user string) (*client.Client, error) {
	file := cmp.Or(k.Config, os.Getenv("KRB5_CONFIG"), "/etc/krb5.conf")
	conf, err := config.Load(file)
	// krb5.conf may hold more than gokrb5 knows of, which it ignores.
	if _, unsupported := errors.AsType[config.UnsupportedDirective](err); err != nil && !unsupported {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if k.Keytab == "" {
		return k.fromCache(conf)
	}
	kt, err := keytab.Load(k.Keytab)
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return nil, fmt.Errorf("%w cannot be read: %w", errKeytab, err)
	}
	// What gokrb5 says of a keytab that is cut short holds all of it, keys too.
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

func (k Kerberos) fromCache(conf *config.Config) (cl *client.Client, err error) {
	file := cmp.Or(k.Cache, os.Getenv("KRB5CCNAME"), fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid()))
	kind, path, ok := strings.Cut(file, ":")
	if !ok {
		path = file
	} else if kind != "FILE" {
		return nil, fmt.Errorf("%w %s is not a file: set KRB5CCNAME=FILE:/path", errCache, file)
	}
	// gokrb5 reads beyond the end of a cache that is cut short, as one is
	// while kinit writes it. That must not end everybody's mail.
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
