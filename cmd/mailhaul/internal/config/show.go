package config

import (
	"bytes"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mailhaul/mailhaul/pop3proto/kpop"
)

// YAML returns the configuration as it is understood: with aliases, merges and
// defaults filled in, absolute paths, and "***" for secrets. Apart from these, it is
// a file that means the same. If an account is named, which must exist, the result has
// only that account and the sinks that it delivers to.
func (c *Config) YAML(account string) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(c.showTree(account))
	return out.Bytes(), err
}

// JSON returns what YAML does, as a JSON object. Durations and sizes are strings.
func (c *Config) JSON(account string) []byte {
	var out bytes.Buffer
	writeJSON(&out, c.showTree(account))
	return out.Bytes()
}

// shownKey is a key and the value that is shown if it is not set; "" if then the key is
// not shown.
type shownKey struct{ key, defaultText string }

// These tables have the keys in the order in which they are shown. Those of a sink are in
// the order of sinkKinds. A test compares them with the keys that the parser knows.
var (
	topShown = []shownKey{
		{"state", ""}, {"parallel", "8"}, {"per_host", "2"}, {"grace", "10s"},
		{"notify", ""}, {"metrics", ""}, {"metrics_file", ""}, {"oauth", ""}, {"sinks", ""}, {"accounts", ""},
	}
	accountShown = []shownKey{
		{"server", ""}, {"protocol", "pop3"},
		{"tls", "implicit"}, {"tls_ca", ""}, {"tls_fingerprint", ""}, {"tls_cert", ""}, {"tls_key", ""}, {"tls_name", ""}, {"tls_min", "1.2"},
		{"source_ip", ""}, {"socks5", ""}, {"tunnel", ""}, {"preconnect", ""}, {"postpoll", ""},
		{"user", ""}, {"password", ""}, {"password_file", ""}, {"password_env", ""}, {"password_command", ""},
		{"token_command", ""}, {"oauth", ""}, {"kerberos", ""}, {"password_timeout", "30s"}, {"auth", "auto"},
		{"deliver", ""}, {"route", ""}, {"filter", ""}, {"refused", "keep"}, {"quarantine", ""},
		{"keep", "false"}, {"max_size", ""}, {"max_messages", "1000"},
		{"received_header", "true"}, {"delivered_to", ""}, {"return_path", "false"},
		{"every", "5m"}, {"timeout", "60s"}, {"time_limit", "1h"}, {"pipelining", "auto"},
	}
	sinkDefaults = map[string]string{
		"mode": "0600", "lock_timeout": "30s", "timeout": "5m", "null_sender": "false", "folder": "INBOX",
		"create_folder": "false", "tls_min": "1.2", "auth": "auto", "password_timeout": "30s",
	}
	filterShown = []shownKey{
		{"command", ""}, {"timeout", "5m"}, {"keep", "0"}, {"drop", "99"}, {"quarantine", "100"}, {"allow_drop", "false"}, {"on_failure", "deliver"},
	}
	hookShown = []shownKey{{"command", ""}, {"timeout", "1m"}}
)

// renderer makes the tree for YAML and JSON from the tree of the file. It uses the parser
// to resolve aliases and merges.
type renderer struct{ *parser }

// showTree returns the tree for YAML. The parser has checked before that aliases do not
// make it too large.
func (c *Config) showTree(account string) *yaml.Node {
	r := &renderer{&parser{nodesLeft: math.MaxInt, display: c.display}}
	top := r.fields(c.root)
	nodes := defaultNodes(topShown)
	for _, key := range topShown {
		if v, ok := top[key.key]; ok {
			nodes[key.key] = r.copyNode(v)
		}
	}
	nodes["state"] = textNode(EscapePath(c.State))
	nodes["sinks"] = r.sinksNode(c, account, r.fields(top["sinks"]))
	nodes["accounts"] = r.accountsNode(c, account, r.fields(top["accounts"]), r.fields(top["defaults"]))
	if account != "" {
		return mappingNode(nodes, []shownKey{{"sinks", ""}, {"accounts", ""}})
	}
	return mappingNode(nodes, topShown)
}

// sinksNode shows all sinks, or those of the account that is named.
func (r *renderer) sinksNode(c *Config, account string, values map[string]value) *yaml.Node {
	all := &yaml.Node{Kind: yaml.MappingNode}
	a := c.Account(account)
	for i := range c.Sinks {
		sink := &c.Sinks[i]
		if a == nil || sink.Name == a.Quarantine || slices.Contains(a.Sinks(), sink.Name) {
			appendEntry(all, sink.Name, r.sinkNode(sink, r.fields(values[sink.Name])))
		}
	}
	return all
}

// accountsNode shows all accounts, or the one that is named.
func (r *renderer) accountsNode(c *Config, account string, values, defaults map[string]value) *yaml.Node {
	all := &yaml.Node{Kind: yaml.MappingNode}
	for i := range c.Accounts {
		if a := &c.Accounts[i]; account == "" || a.Name == account {
			appendEntry(all, a.Name, r.accountNode(a, r.fields(values[a.Name]), defaults))
		}
	}
	return all
}

// fields returns the values of a mapping by key. There are none if v is not in the file.
func (r *renderer) fields(v value) map[string]value {
	all := map[string]value{}
	if v.node == nil {
		return all
	}
	for _, e := range r.entries(v) {
		all[e.key] = e.value
	}
	return all
}

// accountNode shows an account, given the values that it sets itself and the defaults.
func (r *renderer) accountNode(a *Account, own, defaults map[string]value) *yaml.Node {
	set := accountValues(a, own, defaults)
	nodes := r.copyNodes(set)
	for key, table := range map[string][]shownKey{"filter": filterShown, "preconnect": hookShown, "postpoll": hookShown} {
		if v, ok := set[key]; ok {
			nodes[key] = r.commandNode(v, table)
		}
	}
	if filter := nodes["filter"]; filter != nil && !a.quarantineRefused {
		removeEntry(filter, "quarantine")
	}
	nodes["server"] = textNode(net.JoinHostPort(a.Host, strconv.Itoa(a.port())))
	nodes["tls"] = textNode(string(a.TLS))
	nodes["deliver"] = textNodes(a.Deliver)
	if route := nodes["route"]; route != nil {
		removeEntry(route, "default") // deliver shows it
	}
	return withDefaults(nodes, accountShown, a.TLS, a.Protocol != KPOP)
}

// accountValues returns the values that apply to an account, its own or those of the
// defaults.
func accountValues(a *Account, own, defaults map[string]value) map[string]value {
	set := maps.Clone(defaults)
	remove := func(keys ...string) {
		for _, key := range keys {
			delete(set, key)
		}
	}
	// These keys of an account replace others of the defaults, too.
	for _, rule := range []struct{ own, replaced []string }{
		{credentialKeys, credentialKeys},
		{[]string{"tls_ca", "tls_fingerprint"}, []string{"tls_ca", "tls_fingerprint"}},
		{[]string{"tunnel"}, []string{"source_ip", "socks5"}},
		{[]string{"source_ip", "socks5"}, []string{"tunnel"}},
	} {
		if slices.ContainsFunc(rule.own, func(key string) bool { _, ok := own[key]; return ok }) {
			remove(rule.replaced...)
		}
	}
	maps.Copy(set, own)
	if a.Protocol == KPOP {
		remove("auth", "password_timeout")
		remove(slices.DeleteFunc(slices.Clone(credentialKeys), func(key string) bool { return key == "kerberos" })...)
	}
	if !a.quarantineRefused {
		remove("quarantine")
	}
	return set
}

// port returns the port to connect to.
func (a *Account) port() int {
	switch {
	case a.Port != 0:
		return a.Port
	case a.Protocol == KPOP:
		return kpop.Port
	case a.TLS == TLSImplicit:
		return 995
	default:
		return 110
	}
}

// sinkNode shows a sink, given the values that the file sets.
func (r *renderer) sinkNode(sink *Sink, set map[string]value) *yaml.Node {
	nodes := r.copyNodes(set)
	var server *Server
	switch {
	case sink.SMTP != nil:
		server = &sink.SMTP.Server
	case sink.IMAP != nil:
		server = &sink.IMAP.Server
	}
	i := slices.IndexFunc(sinkKinds, func(k sinkKind) bool { _, ok := set[k.key]; return ok })
	if i < 0 {
		return mappingNode(nodes, nil)
	}
	kind := sinkKinds[i]
	var table []shownKey
	for _, key := range append([]string{kind.key}, kind.options...) {
		if key == "folder" && sink.IMAP == nil || key == "null_sender" && set["sender"].node != nil {
			table = append(table, shownKey{key, ""})
		} else {
			table = append(table, shownKey{key, sinkDefaults[key]})
		}
	}
	if server == nil {
		return withDefaults(nodes, table, TLSImplicit, false)
	}
	if !strings.HasPrefix(server.Addr, "/") {
		nodes[kind.key], nodes["tls"] = textNode(server.Addr), textNode(string(server.TLS))
	}
	return withDefaults(nodes, table, server.TLS, server.User != "")
}

// withDefaults returns the mapping that a table describes. It leaves out defaults that
// have no effect: TLS options without TLS, auth without a login, and a time limit
// without a command or a file.
func withDefaults(nodes map[string]*yaml.Node, table []shownKey, tls TLS, logsIn bool) *yaml.Node {
	all := defaultNodes(table)
	if !logsIn {
		delete(all, "auth")
	}
	if nodes["password_command"] == nil && nodes["token_command"] == nil && nodes["password_file"] == nil {
		delete(all, "password_timeout")
	}
	for key, node := range nodes {
		if node != nil {
			all[key] = node
		}
	}
	if tls == TLSNone {
		for _, key := range tlsKeys[1:] {
			delete(all, key)
		}
	}
	return mappingNode(all, table)
}

// commandNode shows a program, alone or with its options in the file, with all options.
// It returns nil for none.
func (r *renderer) commandNode(v value, table []shownKey) *yaml.Node {
	nodes := defaultNodes(table)
	switch {
	case v.node.Kind == yaml.MappingNode:
		maps.Copy(nodes, r.copyNodes(r.fields(v)))
	case isNone(v.node):
		return nil
	default:
		nodes["command"] = r.copyNode(v)
	}
	return mappingNode(nodes, table)
}

func (r *renderer) copyNodes(values map[string]value) map[string]*yaml.Node {
	nodes := map[string]*yaml.Node{}
	for key, v := range values {
		nodes[key] = r.copyNode(v)
	}
	return nodes
}

// copyNode returns a value without aliases, comments and secrets.
func (r *renderer) copyNode(v value) *yaml.Node {
	switch v.node.Kind {
	case yaml.MappingNode:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range r.entries(v) {
			appendEntry(m, e.key, r.copyNode(e.value))
		}
		return m
	case yaml.SequenceNode:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range r.items(v) {
			list.Content = append(list.Content, r.copyNode(item))
		}
		return list
	}
	if shown, ok := r.display[v.nodeKey()]; ok {
		return textNode(shown)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: v.node.Tag, Value: v.node.Value}
}
