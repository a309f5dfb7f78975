package discover

import "slices"

// Provider is a large mail provider.
type Provider struct {
	// Name is what users call it.
	Name string
	// Host is its POP3 server, with implicit TLS on port 995; empty if it has
	// none.
	Host string
	// OAuth is its oauth.Provider.Name, or "".
	OAuth string
	// Advice is what the user must do first, or why there is no Host.
	Advice string

	domains []string
	hosts   []string // the domains of its own servers, SRV and MX
}

// server returns the provider's server, found in some way.
func (p *Provider) server(from From) Server {
	return Server{Host: p.Host, Port: 995, From: from, Provider: p}
}

const (
	switchOn    = "switch on POP3 in the settings of its web mail first"
	appPassword = "make a password for this program in the settings of your account (an app password)"
)

// providers lists some of the largest providers, by what they tell their customers.
var providers = []*Provider{
	{
		Name: "Gmail", Host: "pop.gmail.com", OAuth: "google",
		Advice:  "switch on POP in Gmail's settings first; a password must be an app password",
		domains: []string{"gmail.com", "googlemail.com"},
		hosts:   []string{"gmail.com", "google.com", "googlemail.com"},
	}, {
		Name: "Outlook", Host: "outlook.office365.com", OAuth: "microsoft",
		Advice: "let programs use POP in Outlook's settings first; it takes no passwords",
		domains: []string{
			"outlook.com", "hotmail.com", "live.com", "msn.com", "outlook.de", "outlook.fr", "outlook.es", "outlook.it",
			"hotmail.co.uk", "hotmail.de", "hotmail.fr", "hotmail.es", "hotmail.it",
			"live.co.uk", "live.de", "live.fr", "live.it", "live.nl",
		},
		hosts: []string{"outlook.com", "office365.com"},
	}, {
		Name: "Yahoo", Host: "pop.mail.yahoo.com", OAuth: "yahoo", Advice: appPassword,
		domains: []string{
			"yahoo.com", "ymail.com", "rocketmail.com", "yahoo.co.uk", "yahoo.de", "yahoo.fr", "yahoo.es", "yahoo.it",
			"yahoo.ca", "yahoo.com.au", "yahoo.com.br", "yahoo.co.in", "yahoo.in",
		},
		hosts: []string{"yahoo.com", "yahoodns.net"},
	},
	{Name: "AOL", Host: "pop.aol.com", Advice: appPassword, domains: []string{"aol.com"}},
	{
		Name: "GMX", Host: "pop.gmx.net", Advice: switchOn,
		domains: []string{"gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.org", "gmx.info", "gmx.eu"}, hosts: []string{"gmx.net"},
	},
	{
		Name: "GMX", Host: "pop.gmx.com", Advice: switchOn,
		domains: []string{"gmx.com", "gmx.us", "gmx.co.uk", "gmx.fr", "gmx.es"}, hosts: []string{"gmx.com"},
	},
	{Name: "WEB.DE", Host: "pop3.web.de", Advice: switchOn, domains: []string{"web.de"}, hosts: []string{"web.de"}},
	{
		Name: "T-Online", Host: "securepop.t-online.de", Advice: "set a password for mail programs in the customer centre first",
		domains: []string{"t-online.de", "magenta.de"}, hosts: []string{"t-online.de"},
	},
	{
		Name: "Fastmail", Host: "pop.fastmail.com", Advice: appPassword,
		domains: []string{"fastmail.com", "fastmail.fm"}, hosts: []string{"fastmail.com", "messagingengine.com"},
	},
	{Name: "mailbox.org", Host: "pop3.mailbox.org", domains: []string{"mailbox.org"}, hosts: []string{"mailbox.org"}},
	{Name: "Posteo", Host: "posteo.de", domains: []string{"posteo.de", "posteo.net", "posteo.org", "posteo.eu"}, hosts: []string{"posteo.de"}},
	{Name: "Zoho", Host: "pop.zoho.com", Advice: switchOn, domains: []string{"zoho.com", "zohomail.com"}, hosts: []string{"zoho.com"}},
	{Name: "Zoho", Host: "pop.zoho.eu", Advice: switchOn, domains: []string{"zohomail.eu"}, hosts: []string{"zoho.eu"}},
	{Name: "Yandex", Host: "pop.yandex.com", Advice: appPassword, domains: []string{"yandex.com", "yandex.ru", "ya.ru"}, hosts: []string{"yandex.com", "yandex.ru", "yandex.net"}},
	{Name: "Mail.ru", Host: "pop.mail.ru", Advice: appPassword, domains: []string{"mail.ru", "inbox.ru", "list.ru", "bk.ru"}, hosts: []string{"mail.ru"}},
	{Name: "Orange", Host: "pop.orange.fr", domains: []string{"orange.fr", "wanadoo.fr"}, hosts: []string{"orange.fr"}},
	{Name: "Free", Host: "pop.free.fr", domains: []string{"free.fr"}, hosts: []string{"free.fr"}},
	{Name: "La Poste", Host: "pop.laposte.net", domains: []string{"laposte.net"}, hosts: []string{"laposte.net"}},
	{Name: "Libero", Host: "popmail.libero.it", domains: []string{"libero.it"}, hosts: []string{"libero.it"}},
	{Name: "QQ", Host: "pop.qq.com", Advice: switchOn, domains: []string{"qq.com", "foxmail.com"}, hosts: []string{"qq.com"}},
	{Name: "NetEase", Host: "pop.163.com", Advice: switchOn, domains: []string{"163.com"}},
	{Name: "NetEase", Host: "pop.126.com", Advice: switchOn, domains: []string{"126.com"}},

	{
		Name: "iCloud", Advice: "it has IMAP only", domains: []string{"icloud.com", "me.com", "mac.com"},
		hosts: []string{"icloud.com"},
	},
	{
		Name: "Proton", Advice: "its bridge has IMAP only", domains: []string{"proton.me", "protonmail.com", "protonmail.ch", "pm.me"},
		hosts: []string{"protonmail.ch", "proton.ch"},
	},
	{Name: "Tuta", Advice: "its mail can be read by its own programs only", domains: []string{"tuta.com", "tutanota.com", "tutanota.de", "tutamail.com", "tuta.io", "keemail.me"}, hosts: []string{"tutanota.de"}},
}

// providerByDomain returns the provider of a domain of addresses, nil if it is not known.
func providerByDomain(domain string) *Provider {
	i := slices.IndexFunc(providers, func(p *Provider) bool { return slices.Contains(p.domains, domain) })
	if i < 0 {
		return nil
	}
	return providers[i]
}

// providerByHost returns the provider that runs a host, nil if it is not known.
func providerByHost(host string) *Provider {
	for _, p := range providers {
		if host == p.Host || slices.ContainsFunc(p.hosts, func(d string) bool { return isWithin(host, d) }) {
			return p
		}
	}
	return nil
}
