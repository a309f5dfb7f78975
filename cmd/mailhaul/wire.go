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

// choose returns the accounts of those names in the order of the
// configuration; no names are all.
func choose(cfg *config.Config, names []string) ([]config.Account, error) {
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
			return nil, usagef("accounts: "+someOf(accountNames(cfg)), "there is no account %q in %s", name, cfg.Path)
		}
	}
	return chosen, nil
}

// someOf lists names, the first of them if there are more than one can read.
func someOf(names []string) string { return oneline.Some(names, 20) }

// maxIdle bounds the connections of all sinks that nothing needs just now.
// There are as many as polls at once could need, if that is less. Postfix grants
// a client 50, those in use included, and Dovecot 100 to all.
const maxIdle = 32

// wiring is a configuration brought to life.
type wiring struct {
	host     string // this machine's name
	spool    *spool.Dir
	sessions *channel.Sessions
	pool     *remote.Pool // of the sinks' connections
	sinks    map[string]deliver.Sink
	servers  map[string][]config.Server // the different ones of the sinks, by address and user
	grants   *oauth.Store
	sources  map[string]*source // by the key of the grant
	env      []string           // for commands of the configuration
}

// source is an oauth.Source and what the file says of its client and the way to
// the provider.
type source struct {
	*oauth.Source
	client *config.OAuth
	via    config.Via
}

// wire makes the sinks of a configuration, one each, shared by the accounts.
func wire(cfg *config.Config) (*wiring, error) { return wireAfter(nil, cfg) }

// wireAfter is wire for a configuration that takes another's place: sources of
// access tokens that both have are shared, so that nothing is refreshed anew.
func wireAfter(old *wiring, cfg *config.Config) (*wiring, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	w := &wiring{host: host, sinks: map[string]deliver.Sink{}, servers: map[string][]config.Server{}, grants: oauth.NewStore(cfg.State), sources: map[string]*source{}, env: cfg.Environ()}
	w.spool = spool.New(spoolPath(cfg), durable.OS)
	most := 1 // sinks of one account
	for i := range cfg.Accounts {
		most = max(most, len(cfg.Accounts[i].Sinks()))
	}
	w.pool = remote.NewPool(min(cfg.Parallel*most, maxIdle))
	w.sessions = channel.NewSessions(filepath.Join(cfg.State, "tls"))
	// Accounts come first: errors name whoever a source was made for.
	for _, g := range granteesOf(cfg) {
		if key := g.client().Key(); w.sources[key] == nil && old.shared(g) != nil {
			w.sources[key] = old.shared(g)
		}
		w.source(g)
	}
	wrong := config.Error{Path: cfg.Path}
	for _, s := range cfg.Sinks {
		if w.sinks[s.Name], err = w.newSink(s, cfg.State); err != nil {
			wrong.Problems = append(wrong.Problems, problem(s.Line, "sink "+s.Name, err))
		}
	}
	if len(wrong.Problems) > 0 {
		return nil, configError(&wrong)
	}
	return w, nil
}

// spoolPath is the folder in which mail waits for some sinks.
func spoolPath(cfg *config.Config) string { return filepath.Join(cfg.State, "spool") }

// wired reads the configuration, chooses the accounts of those names from it,
// and brings it to life.
func wired(path string, names []string) (cfg *config.Config, chosen []config.Account, w *wiring, err error) {
	if cfg, err = loadConfig(path); err != nil {
		return nil, nil, nil, err
	}
	if chosen, err = choose(cfg, names); err != nil {
		return nil, nil, nil, err
	}
	if w, err = wire(cfg); err != nil {
		return nil, nil, nil, err
	}
	return cfg, chosen, w, nil
}

// Close closes the sinks and the sources of access tokens.
func (w *wiring) Close() {
	for _, s := range w.sinks {
		s.Close() // publishes nothing, so that nothing is lost if it fails
	}
	w.awaitTokens()
}

var security = map[config.TLS]fetch.Security{
	config.TLSImplicit: fetch.ImplicitTLS,
	config.TLSStart:    fetch.StartTLS,
	config.TLSNone:     fetch.PlainText,
}

// via says how a server is reached, by a tunnel with this environment.
func via(v config.Via, env []string) channel.Via {
	out := channel.Via{Source: v.SourceIP, Tunnel: v.Tunnel, Env: env}
	if p := v.SOCKS5; p != nil {
		out.Proxy = &channel.Proxy{Addr: p.Addr, User: p.User, Secret: p.Password.Read}
	}
	return out
}

// account makes an account ready to be polled.
func (w *wiring) account(a config.Account) *fetch.Account {
	account := &fetch.Account{
		Name: a.Name,
		Server: fetch.Server{
			Host: a.Host, Port: a.Port, Security: security[a.TLS],
			Via: via(a.Via, w.env), Silence: a.Timeout, Window: a.Window,
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
	}
	account.Kerberos = a.Kerberos
	if a.Protocol == config.KPOP {
		account.Server.KPOP = &kpop.Options{Host: a.Host, User: a.User, Kerberos: *a.Kerberos}
	}
	account.Server.TLS = a.Trust.Config(account.Server.Addr(), w.sessions)
	w.setHooks(account, a)
	account.Token = w.token(ofAccount(a))
	if a.OAuth != nil {
		account.TokenRefused = w.source(ofAccount(a)).Refused
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
		// What could be wrong with it, the configuration was checked for.
		account.Filter, _ = filter.New(o)
	}
	return account
}

// targets returns sinks by their names.
func (w *wiring) targets(names []string) []fetch.Target {
	targets := make([]fetch.Target, len(names))
	for i, name := range names {
		targets[i] = fetch.Target{Name: name, Sink: w.sinks[name]}
	}
	return targets
}

func (w *wiring) accounts(from []config.Account) []*fetch.Account {
	accounts := make([]*fetch.Account, len(from))
	for i, a := range from {
		accounts[i] = w.account(a)
	}
	return accounts
}
