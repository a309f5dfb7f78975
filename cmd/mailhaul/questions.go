package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/discover"
)

// askForMissing asks for what the command line does not say, and tries the server, the
// login and the sink. Without a prompter it takes the defaults.
func (i *initRun) askForMissing(ctx context.Context) error {
	if i.ask != nil && i.address == "" && i.server == "" {
		err := i.askUntilValid("Your mail address", "", func(a string) error {
			i.address = a
			return i.deriveSettings()
		})
		if err != nil {
			return err
		}
	}
	if err := i.findServer(ctx); err != nil {
		return err
	}
	if err := i.askLoginUntilItWorks(ctx); err != nil {
		return err
	}
	if err := i.askSink(ctx); err != nil {
		return err
	}
	if i.ask != nil && !i.given("keep") {
		return i.askUntilValid("Keep mail on the server: "+keepValues, defaultKeep,
			func(a string) error { i.keep = a; return i.validate() })
	}
	i.keep = cmp.Or(i.keep, defaultKeep)
	return nil
}

// askLoginUntilItWorks asks how to log in and tries it, until that works or the user
// gives up trying.
func (i *initRun) askLoginUntilItWorks(ctx context.Context) error {
	for again := false; ; again = true {
		if err := i.askLogin(again); err != nil {
			return err
		}
		class, err := i.tryLogin(ctx)
		switch {
		case err != nil:
			return err
		case class == fetch.ClassFine:
			return nil
		case i.ask == nil:
			return nothingWritten(class)
		}
		next, err := i.ask.choice("\nWhat now?", []string{"other answers", "go on: I shall see to it later", "end, and write nothing"}, 0)
		if err != nil {
			return err
		}
		switch next {
		case 1:
			i.checkLater = true
			return nil
		case 2:
			return errNoAnswer
		}
	}
}

// nothingWritten is the error of a run without a prompter that found trouble of a class.
func nothingWritten(class fetch.Class) error {
	return &failure{errors.New("nothing was written"), exitCodeByClass[class], "with --no-check it is written without a try"}
}

// askUntilValid asks until set accepts the answer. It shows the errors of set.
func (i *initRun) askUntilValid(question, preset string, set func(string) error) error {
	for {
		text, err := i.ask.line(question, preset)
		if err != nil {
			return err
		}
		if err = set(text); err == nil {
			return nil
		}
		i.say("  %v", err)
		if hint := hintOf(err); hint != "" {
			i.say("  hint: %s", hint)
		}
	}
}

func (i *initRun) say(format string, args ...any) {
	fmt.Fprintf(i.std.out, format+"\n", args...)
}

// findServer finds the server for the address, unless the command line names one.
func (i *initRun) findServer(ctx context.Context) error {
	if i.server != "" {
		i.tls = cmp.Or(i.tls, config.TLSImplicit)
		return nil
	}
	domain, err := discover.Domain(i.address)
	if err != nil {
		return err
	}
	i.say("Looking for the POP3 server of %s …", domain)
	found, err := i.std.finder.Find(ctx, i.address)
	switch {
	case ctx.Err() != nil:
		return errNoAnswer
	case err != nil:
		return i.handleNoServer(err)
	default:
		return i.useFoundServer(domain, found)
	}
}

// handleNoServer says why the search found no server, and asks for one.
func (i *initRun) handleNoServer(err error) error {
	if none, ok := errors.AsType[*discover.NoPOP3Error](err); ok {
		if none.Provider != nil {
			err = fmt.Errorf("%w: %s", err, none.Provider.Advice)
		}
		return &failure{err, exitPerson, "if you know better, name it with --server"}
	}
	notFound, ok := errors.AsType[*discover.NotFoundError](err)
	switch {
	case !ok:
		return err
	case i.ask == nil:
		return &failure{err, exitPerson, "name it with --server; the provider's help pages tell it"}
	}
	i.say("  none was found:")
	for _, a := range notFound.Tried {
		i.say("  %s: %s", a.Server.Addr(), clean(a.Err.Error()))
	}
	return i.askServer("")
}

// useFoundServer takes the server that a search for domain found. If the answer may be
// forged, it asks first.
func (i *initRun) useFoundServer(domain string, s discover.Server) error {
	address, defaultPort, protection, option := s.Host, 995, config.TLSImplicit, ""
	if s.StartTLS {
		defaultPort, protection, option = 110, config.TLSStart, " --tls starttls"
	}
	if s.Port != defaultPort {
		address = s.Addr()
	}
	i.say("  found %s (%s)", s.Addr(), discoveryWords[s.From])
	if s.Confirm {
		if i.ask == nil {
			return &failure{
				fmt.Errorf("the name servers say that the mail of %s is at %s, which anybody on the way could have forged", domain, s.Addr()),
				exitPerson, "if it is right, say so: --server " + address + option,
			}
		}
		i.say("  That is in another domain, and anybody on the way could have forged the answer.")
		if right, err := i.ask.yes("Is " + s.Host + " where you have your mail?"); err != nil {
			return err
		} else if !right {
			return i.askServer("")
		}
	}
	i.server, i.tls, i.provider = address, protection, s.Provider
	if i.provider != nil && i.provider.Advice != "" {
		i.say("  %s: %s", i.provider.Name, i.provider.Advice)
	}
	return i.validate()
}

// discoveryWords say how a server was found.
var discoveryWords = map[discover.From]string{
	discover.Known: "known",
	discover.SRV:   "the domain says so",
	discover.MX:    "where the domain's mail goes",
	discover.Guess: "guessed, and its certificate is right",
}

// askServer asks for the server. Unless --tls is set, its port decides on TLS.
func (i *initRun) askServer(preset string) error {
	return i.askUntilValid("POP3 server, host or host:port", preset, func(a string) error {
		before := i.setup
		i.server = a
		if !i.given("tls") && a != before.server {
			i.tls = config.TLSImplicit
			if _, port, _ := net.SplitHostPort(a); port == "110" {
				i.tls = config.TLSStart
			}
		}
		err := i.validate()
		if err != nil {
			i.setup = before
		}
		return err
	})
}

// protections are the choices of askTLS.
var protections = []struct {
	tls  config.TLS
	what string
}{
	{config.TLSImplicit, "TLS from the first byte, as on port 995"},
	{config.TLSStart, "STARTTLS, as on port 110"},
	{config.TLSNone, "not at all: everyone on the way can read password and mail"},
}

// askTLS asks how the connection is protected.
func (i *initRun) askTLS() error {
	var options []string
	preset := 0
	for n, p := range protections {
		options = append(options, p.what)
		if p.tls == i.tls {
			preset = n
		}
	}
	n, err := i.ask.choice("How is the connection protected?", options, preset)
	i.tls = protections[n].tls
	return err
}

// askLogin asks what is not known of the login. If a login has failed and it asks again,
// it asks for everything, the server and TLS included.
func (i *initRun) askLogin(again bool) error {
	if i.ask == nil {
		return nil
	}
	if again {
		if err := i.askServer(i.server); err != nil {
			return err
		}
		if err := i.askTLS(); err != nil {
			return err
		}
	}
	if again || !i.given("user") {
		err := i.askUntilValid("User name", i.user, func(a string) error { i.user = a; return i.validate() })
		if err != nil {
			return err
		}
	}
	known := i.passwordFile != "" || i.passwordCommand != "" || i.oauth != ""
	switch {
	case again || !known:
		return i.askPassword()
	case i.oauth != "" && i.clientID == "":
		return i.askClient()
	}
	return nil
}

// askPassword asks where the password comes from.
func (i *initRun) askPassword() error {
	i.passwordFile, i.passwordCommand, i.oauth, i.typed = "", "", "", ""
	options := []string{
		"I type it now; it is kept in " + tilde(filepath.Join(filepath.Dir(i.path), i.passwordPath())) + ", which only I can read",
		"a command prints it, such as: pass show mail/" + i.name,
	}
	preset := 0
	if i.provider != nil && i.provider.OAuth != "" {
		options = append(options, "none: OAuth 2.0 with "+i.provider.OAuth+", and a client that I register there (mailhaul help login)")
		if i.provider.OAuth == "microsoft" {
			preset = 2
		}
	}
	way, err := i.ask.choice("How does mailhaul get the password?", options, preset)
	if err != nil {
		return err
	}
	switch way {
	case 0:
		if err := i.checkAbsent(i.passwordPath(), "--name"); err != nil {
			return err
		}
		i.typed, err = i.ask.secret("Password (not shown)", false)
		return err
	case 1:
		return i.askUntilValid("Command", "pass show mail/"+i.name, func(a string) error { i.passwordCommand = a; return i.validate() })
	}
	i.oauth = i.provider.OAuth
	return i.askClient()
}

// checkAbsent checks that a file of a secret beside the configuration does not exist yet.
// option is what chooses another file.
func (i *initRun) checkAbsent(name, option string) error {
	path := filepath.Join(filepath.Dir(i.path), name)
	if _, err := os.Lstat(path); err == nil {
		return usagef("remove it, or choose another by "+option, "there is a file %s already", path)
	}
	return nil
}

// askClient asks for the OAuth client.
func (i *initRun) askClient() error {
	err := i.askUntilValid("Client id", "", func(a string) error { i.clientID = a; return i.validate() })
	if err != nil || i.clientSecretFile != "" {
		return err
	}
	if err := i.checkAbsent(i.clientSecretPath(), "--client-secret-file"); err != nil {
		return err
	}
	i.clientSecret, err = i.ask.secret("Client secret, if it has one (not shown)", true)
	return err
}

// wireDraft wires the configuration as it would be written now.
func (i *initRun) wireDraft() (*config.Config, *wiring, error) {
	cfg, err := i.parse()
	if err != nil {
		return nil, nil, err
	}
	w, err := wire(cfg)
	return cfg, w, err
}

// tryLogin logs in and reports on it as mailhaul check does. It returns the class of the
// result.
func (i *initRun) tryLogin(ctx context.Context) (fetch.Class, error) {
	if !i.check {
		return fetch.ClassFine, nil
	}
	if i.oauth != "" {
		i.say("The login cannot be tried before mailhaul login %s.", i.name)
		return fetch.ClassFine, nil
	}
	cfg, w, err := i.wireDraft()
	if err != nil {
		return 0, err
	}
	defer w.Close()
	store, done, err := openStateReadOnly(ctx, cfg.State)
	if err != nil {
		return 0, err
	}
	defer done()
	account := w.account(cfg.Accounts[0])
	if i.typed != "" {
		account.Secret = func(context.Context) (string, error) { return i.typed, nil }
	}
	i.say("\nTrying it …")
	l := newChecklist(i.std.out)
	report, err := account.Check(ctx, fetch.Options{State: store})
	if ctx.Err() != nil {
		return 0, errNoAnswer
	}
	l.reportServer(account, report, err, time.Now())
	return fetch.Classify(err), nil
}

// sinkKinds are the choices of askSink. place is the default of the question.
var sinkKinds = []struct{ key, what, question, place string }{
	{"maildir", "a Maildir, a folder with a file for each message", "Folder", "~/Maildir"},
	{"mbox", "an mbox, one file with all messages", "File", "~/mbox"},
	{"mda", "a delivery agent: a program that reads a message", "Program and its arguments", "maildrop"},
	{"lmtp", "a mail server on this machine, by LMTP", "Its socket or host:port", "/run/dovecot/lmtp"},
	{"smtp", "a mail server, by SMTP", "host:port", "localhost:25"},
}

// askSink asks where the mail goes until a sink can take it.
func (i *initRun) askSink(ctx context.Context) error {
	for {
		if i.ask != nil && i.kind == "" {
			var options []string
			for _, k := range sinkKinds {
				options = append(options, k.what)
			}
			n, err := i.ask.choice("\nWhere does the mail go? (An IMAP mailbox is possible, too: mailhaul.yaml(5))", options, 0)
			if err != nil {
				return err
			}
			k := sinkKinds[n]
			before := i.setup
			err = i.askUntilValid(k.question, k.place, func(a string) error { return i.setSink(before, k.key, a) })
			if err != nil {
				return err
			}
		}
		filled := i.withPlaceholders()
		i.kind, i.place = filled.kind, filled.place
		class, err := i.trySink(ctx)
		if err != nil || class == fetch.ClassFine {
			return err
		}
		if i.ask == nil || i.given("maildir") || i.given("mbox") {
			return nothingWritten(class)
		}
		i.kind, i.place, i.to = "", "", ""
	}
}

// shellMetacharacters have a meaning for shells, but not in the command of a delivery
// agent, which mailhaul splits at blanks.
const shellMetacharacters = "'\"\\`$|&;<>"

// setSink takes the answer for a kind of sink. before is the setup without any earlier
// answer.
func (i *initRun) setSink(before setup, kind, place string) (err error) {
	i.setup = before
	if kind == "mda" && strings.ContainsAny(place, shellMetacharacters) {
		return usagef("give a program with plain arguments, and write the rest into the file later: mda: [sh, -c, …]",
			"no shell reads this: quotes and the like have no meaning")
	}
	i.kind, i.place = kind, place
	switch kind {
	case "maildir", "mbox":
		i.place, err = pathInConfig(os.ExpandEnv(place))
	case "lmtp", "smtp":
		i.to = i.user
		if me, err := user.Current(); err == nil && kind == "lmtp" {
			i.to = me.Username
		}
		err = i.askUntilValid("For whom", i.to, func(a string) error { i.to = a; return i.validate() })
	}
	if err != nil {
		return err
	}
	if err = i.validate(); err != nil {
		i.setup = before
	}
	return err
}

// trySink checks whether the sink can take mail, and reports on it as mailhaul check
// does. It returns the class of the result.
func (i *initRun) trySink(ctx context.Context) (fetch.Class, error) {
	if !i.check {
		return fetch.ClassFine, nil
	}
	cfg, w, err := i.wireDraft()
	if err != nil {
		return 0, err
	}
	defer w.Close()
	l := newChecklist(i.std.out)
	return l.reportSinks(ctx, cfg, w, cfg.Accounts[0], sinkProbes(ctx, cfg, w)), nil
}
