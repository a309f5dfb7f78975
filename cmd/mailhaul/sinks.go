package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/discard"
	"github.com/mailhaul/mailhaul/deliver/imap"
	"github.com/mailhaul/mailhaul/deliver/maildir"
	"github.com/mailhaul/mailhaul/deliver/mbox"
	"github.com/mailhaul/mailhaul/deliver/mda"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/smtp"
)

// newSink makes a sink. It touches neither the disk nor the network. state is
// the folder with what is remembered: mail that is promised there is nobody
// else's to sweep away.
func (w *wiring) newSink(s config.Sink, state string) (deliver.Sink, error) {
	server := func(of config.Server) remote.Server {
		r := w.remoteServer(of)
		r.Name = s.Name
		r.Token = w.token(ofSink(s))
		if of.OAuth != nil {
			r.TokenRefused = w.source(ofSink(s)).Refused
		}
		return r
	}
	switch {
	case s.Maildir != nil:
		return maildir.New(s.Maildir.Path, maildir.Options{
			Subfolder: s.Maildir.Folder, FileMode: s.Maildir.Mode, Host: w.host, Owner: w.host + state,
		})
	case s.Mbox != nil:
		return mbox.New(s.Mbox.Path, mbox.Options{Spool: w.spool, LockTimeout: s.Mbox.LockTimeout, Host: w.host})
	case s.MDA != nil:
		return mda.New(mda.Options{
			Argv: s.MDA.Argv, Recipient: s.MDA.Recipient, Dir: s.MDA.Dir, Timeout: s.MDA.Timeout, Spool: w.spool,
		})
	case s.SMTP != nil:
		return smtp.New(smtp.Options{
			Name: s.Name, Server: server(s.SMTP.Server), LMTP: s.SMTP.LMTP, Hello: s.SMTP.Hello,
			To: s.SMTP.To, Sender: s.SMTP.Sender, NullSender: s.SMTP.NullSender, Spool: w.spool, Pool: w.pool,
		})
	case s.IMAP != nil:
		return imap.New(imap.Options{
			Server: server(s.IMAP.Server), Folder: s.IMAP.Folder, Create: s.IMAP.Create,
			Flags: s.IMAP.Flags, Spool: w.spool, Pool: w.pool, Login: w.login(s.IMAP.Server),
		})
	default:
		return discard.New(s.Discard)
	}
}

// login names what a sink says of its server, alike for all that say the same.
func (w *wiring) login(of config.Server) string {
	place := fmt.Sprintf("%s %s", of.Addr, of.User)
	n := slices.IndexFunc(w.servers[place], func(other config.Server) bool { return reflect.DeepEqual(of, other) })
	if n < 0 {
		n = len(w.servers[place])
		w.servers[place] = append(w.servers[place], of)
	}
	return fmt.Sprintf("%s %d", place, n)
}

// problem is the mistake in a configuration that an error shows.
func problem(line int, what string, err error) config.Problem {
	p := config.Problem{Line: line, Text: what + ": " + err.Error()}
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		p.Text, p.Hint = what+": "+e.Op, e.Hint
	}
	return p
}

var remoteSecurity = map[config.TLS]remote.Security{
	config.TLSImplicit: remote.ImplicitTLS,
	config.TLSStart:    remote.StartTLS,
	config.TLSNone:     remote.PlainText,
}

// remoteServer says how a sink reaches its server.
func (w *wiring) remoteServer(s config.Server) remote.Server {
	r := remote.Server{
		Addr: s.Addr, Security: remoteSecurity[s.TLS], TLS: s.Trust.Config(s.Addr, w.sessions), Via: via(s.Via, w.env),
		Timeout: s.Timeout, User: s.User, Kerberos: s.Kerberos, Auth: s.Auth,
	}
	if s.Password.IsSet() {
		r.Secret = s.Password.Read
	}
	return r
}
