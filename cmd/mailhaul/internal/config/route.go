package config

import (
	"cmp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Route chooses sinks by the recipients in a message's envelope.
type Route struct {
	// Headers are the header fields that name the envelope's recipients.
	Headers []string
	// Map has the names of sinks by recipient: an address, a local part or "@domain",
	// in lower case.
	Map map[string][]string
	// Domains are the domains of the local parts in Map, in lower case. The account's
	// default sinks get only recipients in these domains, unless they have recipients of
	// their own.
	Domains []string
}

// routeSettings holds the options of a route.
type routeSettings struct {
	Route
	defaultSinks   []string
	firstLocalPart *value // where Map first names a local part alone; nil if it does not
}

var routeReaders = keyReaders[routeSettings]{
	"header":  func(p *parser, v value, r *routeSettings) { r.Headers = p.readEnvelopeHeaders(v) },
	"map":     func(p *parser, v value, r *routeSettings) { p.readRouteMap(v, r) },
	"domains": func(p *parser, v value, r *routeSettings) { r.Domains = p.readDomains(v) },
	"default": func(p *parser, v value, r *routeSettings) { r.defaultSinks = p.readSinkNames(v) },
}

// readRoute reads a route. Its default sets the sinks that the account delivers to.
func (p *parser) readRoute(v value, a *Account) {
	var r routeSettings
	lines := readMapping(p, v, routeReaders, &r)
	if !lines.has("header") {
		p.fail(v, "header: [X-Envelope-To, Delivered-To, X-Original-To]", "header is missing")
	}
	if r.firstLocalPart != nil && !lines.has("domains") {
		p.fail(*r.firstLocalPart, "add domains: [example.com], or write the whole address", "whose local part this is, is not said")
	}
	a.Route = &r.Route
	if lines.has("default") {
		a.Deliver, a.routeDefaultLine = r.defaultSinks, lines["default"]
	}
}

// senderHeaders are header fields that the sender writes, not the receiving server.
var senderHeaders = []string{"to", "cc", "bcc", "resent-to", "resent-cc", "resent-bcc", "from", "sender", "reply-to"}

// readEnvelopeHeaders reads the names of header fields that hold envelope recipients.
func (p *parser) readEnvelopeHeaders(v value) []string {
	var names []string
	for _, item := range p.items(v) {
		name, ok := p.text(item)
		switch {
		case !ok:
		case slices.Contains(senderHeaders, strings.ToLower(name)):
			p.fail(item, "name the field in which your server notes the envelope: X-Envelope-To, Delivered-To or X-Original-To",
				"%s is what the sender wrote, not whom the mail was for", quote(name))
		case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }): // RFC 5322 §2.2
			p.fail(item, "write X-Envelope-To", "%s is not the name of a header field", quote(name))
		default:
			names = append(names, name)
		}
	}
	return names
}

// readRouteMap reads the sinks for each recipient. It rejects a *, since there are no
// patterns: it would match nothing but itself, and all mail would go to the default.
func (p *parser) readRouteMap(v value, r *routeSettings) {
	r.Map = map[string][]string{}
	for _, e := range p.entries(v) {
		at := value{node: e.value.node, line: e.line, where: v.where}
		key := strings.ToLower(e.key)
		local, domain, found := strings.Cut(key, "@")
		switch _, twice := r.Map[key]; {
		case twice:
			p.fail(at, "", "%s appears twice: case does not matter", quote(key))
		case strings.ContainsAny(key, " \t<>,;*") || key == "" || found && !isDomain(domain):
			p.fail(at, `write me@example.com, me, or "@example.com" for the whole domain`, "%s is not a recipient", quote(e.key))
		case local != "" && !found && r.firstLocalPart == nil:
			at.where = e.value.where
			r.firstLocalPart = &at
		}
		r.Map[key] = p.readSinkNames(e.value)
	}
}

func (p *parser) readDomains(v value) []string {
	var all []string
	for _, item := range p.items(v) {
		if s, ok := p.text(item); ok && !isDomain(s) {
			p.fail(item, "write example.com", "%s is not a domain", quote(s))
		} else if ok {
			all = append(all, strings.ToLower(s))
		}
	}
	return all
}

func isDomain(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsAny(s, " \t<>,;@/*")
}

// readSinkNames reads the name of a sink, or a list of them.
func (p *parser) readSinkNames(v value) []string {
	var names []string
	for _, item := range p.items(v) {
		name, ok := p.text(item)
		switch {
		case !ok:
		case slices.Contains(names, name):
			p.fail(item, "", "%s appears twice", quote(name))
		case len(p.sinkNames) > 0 && p.sinkNodes[name] == nil:
			p.fail(item, p.suggestSink(name), "there is no sink %s", quote(name))
			fallthrough // so that the option does not count as missing, too
		default:
			names = append(names, name)
		}
	}
	return names
}

// suggestSink returns a hint which sink was meant by an unknown name. A generated file
// may have thousands of such names, and a search for each would take too long.
func (p *parser) suggestSink(name string) string {
	if len(p.problems) >= 100 {
		return ""
	}
	_, hint := didYouMean(name, p.sinkNames)
	return hint
}

// readQuarantine reads the name of one sink.
func (p *parser) readQuarantine(v value, a *Account) {
	if v.node.Kind == yaml.SequenceNode {
		p.fail(v, "name one sink", "is a list")
	} else if names := p.readSinkNames(v); len(names) > 0 {
		a.Quarantine = names[0]
	}
}

// checkDeliveries checks the sinks of an account, and completes them.
func (p *parser) checkDeliveries(v value, a *Account) {
	p.setDefaultSink(v, a)
	p.checkQuarantine(v, a)
	p.checkRecipients(v, a)
	if !a.quarantineRefused {
		a.Quarantine = ""
	}
	p.checkDistinctSinks(v, a)
}

// setDefaultSink sets the sink of an account that names none, if there is only one.
func (p *parser) setDefaultSink(v value, a *Account) {
	switch {
	case a.lines.has("deliver") || len(p.sinkNames) == 0:
	case a.Route != nil:
		p.fail(v, "default: the name of a sink", "route: default is missing, for mail that matches nothing")
	case len(p.sinkNames) == 1:
		a.Deliver = p.sinkNames
	default:
		p.fail(v, cmp.Or(listHint(p.sinkNames), "deliver: the name of one"), "deliver is missing, and there are %d sinks to choose from", len(p.sinkNames))
	}
}

// checkQuarantine checks that the options refused, quarantine and filter fit together.
func (p *parser) checkQuarantine(v value, a *Account) {
	lines := a.lines
	switch {
	case a.quarantineRefused && !lines.has("quarantine"):
		p.fail(v.at(lines["refused"]), "quarantine: the name of a sink", "refused: quarantine needs quarantine")
	case lines.has("quarantine") && !lines.has("refused"):
		p.fail(v.at(lines["quarantine"]), "add refused: quarantine", "quarantine alone has no effect")
	case a.quarantineRefused && a.Quarantine != "" && slices.Contains(a.Sinks(), a.Quarantine):
		p.fail(v.at(lines["quarantine"]), "name another sink", "quarantine is the sink that refused")
	}
	if a.Filter != nil && len(a.Filter.Quarantine) > 0 && !a.quarantineRefused {
		p.fail(v.at(lines["filter"]), "refused: quarantine, and quarantine: the name of a sink", "filter: quarantine needs quarantine")
	}
}

// checkDistinctSinks checks that no two sinks of an account are the same file or folder:
// a Maildir would get each message twice, and mailhaul would wait for its own lock of an
// mbox.
func (p *parser) checkDistinctSinks(v value, a *Account) {
	sinkAt := map[string]string{} // by path
	for _, name := range append(a.Sinks(), a.Quarantine) {
		path := p.sinkPaths[name]
		if other := sinkAt[path]; path != "" && other != "" && other != name {
			p.fail(v, "name one of them", "sinks %s and %s are the same place", quote(other), quote(name))
		}
		sinkAt[path] = name
	}
}

// checkRecipients checks that each sink that needs recipients has some, from its own
// options or from the route.
func (p *parser) checkRecipients(v value, a *Account) {
	for _, name := range a.Deliver {
		switch key := p.recipientKey[name]; {
		case key == "":
		case a.Route == nil:
			p.fail(v, key+": me@example.com in the sink, or a route in the account",
				"deliver: sink %s does not say for whom the mail is", quote(name))
		case len(a.Route.Domains) == 0:
			// A forged header field must not make it relay mail to anyone.
			p.fail(v, "add domains: [example.com] to route, or "+key+": me@example.com to the sink",
				"route: default: of which domains sink %s takes mail, is not said", quote(name))
		}
	}
	if key := p.recipientKey[a.Quarantine]; key != "" && a.quarantineRefused {
		p.fail(v.at(a.lines["quarantine"]), key+": me@example.com in the sink",
			"quarantine: sink %s does not say for whom the mail is", quote(a.Quarantine))
	}
}

// Sinks returns the names of all sinks that the account delivers to, each once, without
// Quarantine.
func (a *Account) Sinks() []string {
	all := slices.Clone(a.Deliver)
	if a.Route != nil {
		for _, names := range a.Route.Map {
			all = append(all, names...)
		}
	}
	slices.Sort(all[len(a.Deliver):])
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}
