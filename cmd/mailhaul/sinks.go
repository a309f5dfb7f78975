package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"

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
		r := remoteServer(of)
		r.Token = w.token(ofSink(s))
		return r
	}
	switch {
	case s.Maildir != nil:
		return maildir.New(s.Maildir.Path, maildir.Options{
			Subfolder: s.Maildir.Folder, FileMode: s.Maildir.Mode, Host: w.host, Owner: w.host + state,
		})
	case s.Mbox != nil:
		return mbox.New(s.Mbox.Path, mbox.Options{Spool: w.spool, LockTimeout: s.Mbox.LockTimeout, Host: w.host}), nil
	case s.MDA != nil:
		return mda.New(mda.Options{
			Argv: s.MDA.Argv, Recipient: s.MDA.Recipient, Dir: s.MDA.Dir, Timeout: s.MDA.Timeout, Spool: w.spool,
		})
	case s.SMTP != nil:
		return smtp.New(smtp.Options{
			Server: server(s.SMTP.Server), LMTP: s.SMTP.LMTP, Hello: s.SMTP.Hello,
			To: s.SMTP.To, Sender: s.SMTP.Sender, NullSender: s.SMTP.NullSender, Spool: w.spool,
		})
	case s.IMAP != nil:
		return imap.New(imap.Options{
			Server: server(s.IMAP.Server), Folder: s.IMAP.Folder, Create: s.IMAP.Create,
			Flags: s.IMAP.Flags, Spool: w.spool,
		})
	default:
		return discard.New(s.Discard)
	}
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
func remoteServer(s config.Server) remote.Server {
	r := remote.Server{
		Addr: s.Addr, Security: remoteSecurity[s.TLS], TLS: verify(s.Security),
		Timeout: s.Timeout, User: s.User,
	}
	if s.Password.IsSet() {
		r.Secret = s.Password.Read
	}
	return r
}

// verify returns what the certificate of a sink's server must be.
func verify(s config.Security) *tls.Config {
	c := &tls.Config{RootCAs: s.RootCAs, MinVersion: tls.VersionTLS12}
	if s.TLSMin != 0 {
		c.MinVersion = s.TLSMin
	}
	if len(s.Fingerprint) > 0 {
		// VerifyConnection, unlike VerifyPeerCertificate, also runs when a
		// session is resumed.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			cert := cs.PeerCertificates[0]
			if sum := sha256.Sum256(cert.Raw); !bytes.Equal(sum[:], s.Fingerprint) {
				return &tls.CertificateVerificationError{
					UnverifiedCertificates: cs.PeerCertificates,
					Err:                    fmt.Errorf("its tls_fingerprint is %x, which is not the one configured", sum),
				}
			}
			return nil
		}
	}
	return c
}
