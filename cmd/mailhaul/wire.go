package main

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/deliver/remote"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/kpop"
)

// loadConfig finds and reads the configuration.
func loadConfig(explicit string) (*config.Config, error) {
	path, err := config.Find(explicit)
	if err != nil {
		return nil, configError(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, configError(err)
	}
	return cfg, nil
}

// chooseAccounts returns the accounts with those names, in the order of the
// configuration; all of them if there are no names.
func chooseAccounts(cfg *config.Config, names []string) ([]config.Account, error) {
	if len(names) == 0 {
		return cfg.Accounts, nil
	}
	var chosen []config.Account
	for _, a := range cfg.Accounts {
		if slices.Contains(names, a.Name) {
			chosen = append(chosen, a)
		}
	}
	for _, name := range names {
		if cfg.Account(name) == nil {
			return nil, usagef("accounts: "+listNames(accountNames(cfg)), "there is no account %q in %s", name, cfg.Path)
		}
	}
	return chosen, nil
}

// listNames lists names, only the first of them if there are many.
func listNames(names []string) string { return oneline.Some(names, 20) }

// maxIdleConns bounds the idle connections of all sinks together. Postfix accepts 50
// connections of one client, those in use included, and Dovecot 100 of all clients.
const maxIdleConns = 32

// wiring is what a configuration describes, as the objects of the packages that do the
// work: the sinks, and what accounts and sinks share.
type wiring struct {
	host         string            // this machine's name
	spool        *spool.Dir        // in which mail waits for sinks that need one
	sessions     *channel.Sessions // of TLS, to be resumed
	pool         *remote.Pool      // of the sinks' connections
	sinks        map[string]deliver.Sink
	servers      map[string][]config.Server // the distinct servers of sinks, by address and user
	grants       *oauth.Store
	tokenSources map[string]*sharedTokenSource // by the key of the grant
	env          []string                      // of the commands in the configuration
}

// wire makes the sinks of a configuration, and what they share with the accounts.
func wire(cfg *config.Config) (*wiring, error) { return rewire(nil, cfg) }

// rewire is wire for a configuration that replaces another. Token sources that both have
// in common are taken over, so that no token is refreshed without need. old may be nil.
func rewire(old *wiring, cfg *config.Config) (*wiring, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	maxSinks := 1 // of one account
	for i := range cfg.Accounts {
		maxSinks = max(maxSinks, len(cfg.Accounts[i].Sinks()))
	}
	w := &wiring{
		host:         host,
		spool:        spool.New(filepath.Join(cfg.State, "spool"), durable.OS),
		sessions:     channel.NewSessions(filepath.Join(cfg.State, "tls")),
		pool:         remote.NewPool(min(cfg.Parallel*maxSinks, maxIdleConns)),
		sinks:        map[string]deliver.Sink{},
		servers:      map[string][]config.Server{},
		grants:       oauth.NewStore(cfg.State),
		tokenSources: map[string]*sharedTokenSource{},
		env:          cfg.Environ(),
	}
	// An error of a shared source names the login that it was made for, so the
	// accounts come before the sinks.
	for _, l := range oauthLogins(cfg) {
		key := l.oauthClient().Key()
		if reusable := old.reusableSource(l); reusable != nil && w.tokenSources[key] == nil {
			w.tokenSources[key] = reusable
		}
		w.tokenSource(l)
	}
	problems := config.Error{Path: cfg.Path}
	for _, s := range cfg.Sinks {
		if w.sinks[s.Name], err = w.newSink(s, cfg.State); err != nil {
			problems.Problems = append(problems.Problems, configProblem(s.Line, "sink "+s.Name, err))
		}
	}
	if len(problems.Problems) > 0 {
		return nil, configError(&problems)
	}
	return w, nil
}

// loadAndWire reads the configuration, chooses the accounts with those names, and wires
// it. The caller must close w.
func loadAndWire(path string, names []string) (cfg *config.Config, chosen []config.Account, w *wiring, err error) {
	if cfg, err = loadConfig(path); err != nil {
		return nil, nil, nil, err
	}
	if chosen, err = chooseAccounts(cfg, names); err != nil {
		return nil, nil, nil, err
	}
	if w, err = wire(cfg); err != nil {
		return nil, nil, nil, err
	}
	return cfg, chosen, w, nil
}

// Close closes the sinks, and waits for access tokens that are being renewed.
func (w *wiring) Close() {
	for _, s := range w.sinks {
		s.Close() // publishes nothing, so its error loses nothing
	}
	w.awaitTokenRenewals()
}

var pollSecurity = map[config.TLS]fetch.Security{
	config.TLSImplicit: fetch.ImplicitTLS,
	config.TLSStart:    fetch.StartTLS,
	config.TLSNone:     fetch.PlainText,
}

// channelVia translates the way to a server. env is the environment of a tunnel.
func channelVia(v config.Via, env []string) channel.Via {
	out := channel.Via{Source: v.SourceIP, Tunnel: v.Tunnel, Env: env}
	if p := v.SOCKS5; p != nil {
		out.Proxy = &channel.Proxy{Addr: p.Addr, User: p.User, Secret: p.Password.Read}
	}
	return out
}

// account returns an account that can be polled.
func (w *wiring) account(a config.Account) *fetch.Account {
	account := &fetch.Account{
		Name: a.Name,
		Server: fetch.Server{
			Host: a.Host, Port: a.Port, Security: pollSecurity[a.TLS],
			Via: channelVia(a.Via, w.env), Silence: a.Timeout, Window: a.Window,
		},
		User:        a.User,
		Auth:        a.Auth,
		Keep:        a.Keep,
		MaxSize:     a.MaxSize,
		MaxMessages: a.MaxMessages,
		Deliver:     w.targets(a.Deliver),
		Headers:     fetch.Headers{Received: a.ReceivedHeader, DeliveredTo: a.DeliveredTo, ReturnPath: a.ReturnPath},
		Every:       a.Every,
		Budget:      a.TimeLimit,
		Kerberos:    a.Kerberos,
	}
	if a.Protocol == config.KPOP {
		account.Server.KPOP = &kpop.Options{Host: a.Host, User: a.User, Kerberos: *a.Kerberos}
	}
	account.Server.TLS = a.Trust.Config(account.Server.Addr(), w.sessions)
	w.setHooks(account, a)
	account.Token = w.tokenFunc(accountLogin(a))
	if a.OAuth != nil {
		account.TokenRefused = w.tokenSource(accountLogin(a)).Refused
	}
	if a.Password.IsSet() {
		account.Secret = a.Password.Read
	}
	if a.Quarantine != "" {
		account.Quarantine = &w.targets([]string{a.Quarantine})[0]
	}
	if a.Route != nil {
		account.Route = &fetch.Route{Headers: a.Route.Headers, Map: map[string][]fetch.Target{}, Domains: a.Route.Domains}
		for key, names := range a.Route.Map {
			account.Route.Map[key] = w.targets(names)
		}
	}
	if a.Filter != nil {
		o := *a.Filter
		o.Spool = w.spool
		account.Filter, _ = filter.New(o) // validating the configuration has made one
	}
	return account
}

// fetchSetup returns what fetch needs to poll accounts.
func (w *wiring) fetchSetup(cfg *config.Config, store *state.Store, accounts []*fetch.Account, observe fetch.Observer) fetch.Setup {
	return fetch.Setup{
		Accounts: accounts, Parallel: cfg.Parallel, PerHost: cfg.PerHost,
		Options: fetch.Options{
			State: store, Sinks: w.sinks, Scratch: cfg.State, Sweep: w.spool.Sweep, Host: w.host, Observer: observe,
		},
	}
}

// targets returns the sinks with those names.
func (w *wiring) targets(names []string) []fetch.Target {
	targets := make([]fetch.Target, len(names))
	for i, name := range names {
		targets[i] = fetch.Target{Name: name, Sink: w.sinks[name]}
	}
	return targets
}

// accounts returns accounts that can be polled.
func (w *wiring) accounts(from []config.Account) []*fetch.Account {
	accounts := make([]*fetch.Account, len(from))
	for i, a := range from {
		accounts[i] = w.account(a)
	}
	return accounts
}
