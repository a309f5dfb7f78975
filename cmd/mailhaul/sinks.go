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

// newSink makes a sink. It touches neither the disk nor the network. state is the folder
// of the state database. A Maildir's unfinished files are marked with it and the host,
// so that no other mailhaul removes what this database has promised.
func (w *wiring) newSink(s config.Sink, state string) (deliver.Sink, error) {
	server := func(c config.Server) remote.Server {
		r := w.remoteServer(c)
		r.Name = s.Name
		r.Token = w.tokenFunc(sinkLogin(s))
		if c.OAuth != nil {
			r.TokenRefused = w.tokenSource(sinkLogin(s)).Refused
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
			Flags: s.IMAP.Flags, Spool: w.spool, Pool: w.pool, Login: w.sinkLoginID(s.IMAP.Server),
		})
	default:
		return discard.New(s.Discard)
	}
}

// sinkLoginID returns a name for the server of a sink and the login there. Sinks with
// the same settings for their server get the same name.
func (w *wiring) sinkLoginID(s config.Server) string {
	key := fmt.Sprintf("%s %s", s.Addr, s.User)
	n := slices.IndexFunc(w.servers[key], func(other config.Server) bool { return reflect.DeepEqual(s, other) })
	if n < 0 {
		n = len(w.servers[key])
		w.servers[key] = append(w.servers[key], s)
	}
	return fmt.Sprintf("%s %d", key, n)
}

// configProblem returns err as a mistake in the configuration: what, at a line of the
// file, cannot be used.
func configProblem(line int, what string, err error) config.Problem {
	p := config.Problem{Line: line, Text: what + ": " + err.Error()}
	if e, ok := errors.AsType[*deliver.Error](err); ok {
		p.Text, p.Hint = what+": "+e.Op, e.Hint
	}
	return p
}

var sinkSecurity = map[config.TLS]remote.Security{
	config.TLSImplicit: remote.ImplicitTLS,
	config.TLSStart:    remote.StartTLS,
	config.TLSNone:     remote.PlainText,
}

// remoteServer translates how a sink reaches its server and logs in, but for tokens.
func (w *wiring) remoteServer(s config.Server) remote.Server {
	r := remote.Server{
		Addr: s.Addr, Security: sinkSecurity[s.TLS], TLS: s.Trust.Config(s.Addr, w.sessions), Via: channelVia(s.Via, w.env),
		Timeout: s.Timeout, User: s.User, Kerberos: s.Kerberos, Auth: s.Auth,
	}
	if s.Password.IsSet() {
		r.Secret = s.Password.Read
	}
	return r
}
