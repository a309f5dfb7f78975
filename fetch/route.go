package fetch

import (
	"slices"
	"strings"

	"github.com/mailhaul/mailhaul/deliver/envelope"
)

// Route chooses sinks by the recipients in a message's envelope, for a
// maildrop that takes the mail of several people ("multidrop").
type Route struct {
	// Headers are the fields in which the server notes the envelope's
	// recipients, such as X-Envelope-To. The topmost of them counts: what a
	// sender forges stands further down. To and Cc are no envelope and must
	// not be among them.
	Headers []string
	// Map gives sinks to recipients. Its keys are in lower case: an address;
	// a local part, for addresses in Domains; or "@" and a domain, for all its
	// addresses that have no key of their own.
	Map map[string][]Target
	// Domains are the domains, in lower case, whose local parts Map may name
	// alone.
	Domains []string
}

// destination is a sink that a message is for.
type destination struct {
	Target
	// recipients are those for whom it goes there; empty without a route.
	recipients []string
}

// destinations returns the sinks that a message with that header is for. A recipient
// without a route gets it from where all mail goes without one: the message is never lost,
// and never bounced.
func (a *Account) destinations(header []byte) []destination {
	var dests []destination
	add := func(targets []Target, recipient string) {
		for _, t := range targets {
			i := slices.IndexFunc(dests, func(d destination) bool { return d.Target == t })
			if i < 0 {
				i = len(dests)
				dests = append(dests, destination{Target: t})
			}
			if recipient != "" {
				dests[i].recipients = append(dests[i].recipients, recipient)
			}
		}
	}
	if a.Route != nil {
		for _, recipient := range envelope.Recipients(header, a.Route.Headers) {
			targets, ok := a.Route.find(recipient)
			switch {
			case ok:
				add(targets, recipient)
			case a.Route.ours(recipient):
				add(a.Deliver, recipient)
			default:
				// An address in a foreign domain may be a sender's invention: a sink
				// that relays must not relay to it.
				add(a.Deliver, "")
			}
		}
	}
	if len(dests) == 0 {
		add(a.Deliver, "")
	}
	return dests
}

// ours reports whether a recipient is in one of the domains.
func (r *Route) ours(recipient string) bool {
	at := strings.LastIndexByte(recipient, '@') // a quoted local part may hold one, too
	return at >= 0 && slices.Contains(r.Domains, strings.ToLower(recipient[at+1:]))
}

// find returns the sinks of a recipient.
func (r *Route) find(recipient string) ([]Target, bool) {
	address := strings.ToLower(recipient)
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		targets, ok := r.Map[address]
		return targets, ok
	}
	if targets, ok := r.Map[address]; ok {
		return targets, true
	}
	if slices.Contains(r.Domains, address[at+1:]) {
		if targets, ok := r.Map[address[:at]]; ok {
			return targets, true
		}
	}
	targets, ok := r.Map[address[at:]]
	return targets, ok
}
