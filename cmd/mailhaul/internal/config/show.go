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

// YAML returns the configuration as it is understood: aliases, merges and
// defaults are filled in, paths are whole, secrets are "***". The file it makes
// means the same. Of an account, it is that and the sinks that it delivers to.
// There must be such an account, or none named.
func (c *Config) YAML(account string) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(c.showTree(account))
	return out.Bytes(), err
}

// JSON is YAML as an object of JSON. Durations and sizes are strings.
func (c *Config) JSON(account string) []byte {
	var out bytes.Buffer
	writeJSON(&out, c.showTree(account))
	return out.Bytes()
}

// shownKey is a key with what holds where nothing is said; "" if that is
// nothing.
type shownKey struct{ key, defaultText string }

// The keys in the order in which they are shown. Those of a sink come in the
// order of kinds. A test holds these tables against those of the parser.
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

// show returns the tree of what YAML says. The file was checked for aliases that
// make too much of it.
func (c *Config) showTree(account string) *yaml.Node {
	s := &renderer{&parser{nodesLeft: math.MaxInt, display: c.display}}
	top := s.fields(c.root)
	defaults := s.fields(top["defaults"])
	all := defaultNodes(topShown)
	for _, key := range topShown {
		if v, ok := top[key.key]; ok {
			all[key.key] = s.copyNode(v)
		}
	}
	all["state"] = textNode(escapePath(c.State))

	var sinks, accounts yaml.Node
	sinks.Kind, accounts.Kind = yaml.MappingNode, yaml.MappingNode
	wanted := func(string) bool { return true }
	if a := c.Account(account); a != nil {
		names := append(a.Sinks(), a.Quarantine)
		wanted = func(sink string) bool { return slices.Contains(names, sink) }
	}
	ofSinks := s.fields(top["sinks"])
	for i := range c.Sinks {
		if sink := &c.Sinks[i]; wanted(sink.Name) {
			appendEntry(&sinks, sink.Name, s.sinkNode(sink, s.fields(ofSinks[sink.Name])))
		}
	}
	ofAccounts := s.fields(top["accounts"])
	for i := range c.Accounts {
		if a := &c.Accounts[i]; account == "" || a.Name == account {
			appendEntry(&accounts, a.Name, s.accountNode(a, s.fields(ofAccounts[a.Name]), defaults))
		}
	}
	all["sinks"], all["accounts"] = &sinks, &accounts
	if account != "" {
		return mappingNode(all, []shownKey{{"sinks", ""}, {"accounts", ""}})
	}
	return mappingNode(all, topShown)
}

// shower makes the tree.
type renderer struct{ *parser }

// fields returns the values of a mapping by their keys, none if v is none.
func (s *renderer) fields(v value) map[string]value {
	all := map[string]value{}
	if v.node == nil {
		return all
	}
	for _, e := range s.entries(v) {
		all[e.key] = e.value
	}
	return all
}

// account shows an account, which says own where the defaults say otherwise.
func (s *renderer) accountNode(a *Account, own, defaults map[string]value) *yaml.Node {
	said := maps.Clone(defaults)
	drop := func(keys ...string) {
		for _, key := range keys {
			delete(said, key)
		}
	}
	// What the account says takes the place of more than the same key.
	for _, instead := range [][2][]string{
		{credentialKeys, credentialKeys},
		{{"tls_ca", "tls_fingerprint"}, {"tls_ca", "tls_fingerprint"}},
		{{"tunnel"}, {"source_ip", "socks5"}},
		{{"source_ip", "socks5"}, {"tunnel"}},
	} {
		if slices.ContainsFunc(instead[0], func(key string) bool { _, ok := own[key]; return ok }) {
			drop(instead[1]...)
		}
	}
	maps.Copy(said, own)
	if a.Protocol == KPOP {
		drop("auth", "password_timeout")
		drop(slices.DeleteFunc(slices.Clone(credentialKeys), func(key string) bool { return key == "kerberos" })...)
	}
	if !a.quarantineRefused {
		drop("quarantine")
	}
	all := map[string]*yaml.Node{}
	for key, v := range said {
		all[key] = s.copyNode(v)
	}
	for key, table := range map[string][]shownKey{"filter": filterShown, "preconnect": hookShown, "postpoll": hookShown} {
		if v, ok := said[key]; ok {
			all[key] = s.commandNode(v, table)
		}
	}
	if filter := all["filter"]; filter != nil && !a.quarantineRefused {
		removeEntry(filter, "quarantine")
	}
	all["server"] = textNode(net.JoinHostPort(a.Host, strconv.Itoa(a.port())))
	all["tls"] = textNode(string(a.TLS))
	all["deliver"] = textNodes(a.Deliver)
	if route := all["route"]; route != nil {
		removeEntry(route, "default") // which deliver says
	}
	return s.withDefaults(all, defaultNodes(accountShown), a.TLS, a.Protocol != KPOP, accountShown)
}

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

func (s *renderer) sinkNode(sink *Sink, said map[string]value) *yaml.Node {
	all := map[string]*yaml.Node{}
	for key, v := range said {
		all[key] = s.copyNode(v)
	}
	var server *Server
	switch {
	case sink.SMTP != nil:
		server = &sink.SMTP.Server
	case sink.IMAP != nil:
		server = &sink.IMAP.Server
	}
	for _, k := range sinkKinds {
		if _, ok := said[k.key]; !ok {
			continue
		}
		var table []shownKey
		for _, key := range append([]string{k.key}, k.options...) {
			if key == "folder" && sink.IMAP == nil || key == "null_sender" && said["sender"].node != nil {
				table = append(table, shownKey{key, ""})
				continue
			}
			table = append(table, shownKey{key, sinkDefaults[key]})
		}
		if server == nil {
			return s.withDefaults(all, defaultNodes(table), TLSImplicit, false, table)
		}
		if !strings.HasPrefix(server.Addr, "/") {
			all[k.key], all["tls"] = textNode(server.Addr), textNode(string(server.TLS))
		}
		return s.withDefaults(all, defaultNodes(table), server.TLS, server.User != "", table)
	}
	return mappingNode(all, nil)
}

// login fills in what is usual, but for what has no use: certificates without
// TLS, a mechanism without a login, a time limit where nothing takes time. It returns
// all in the order of the table.
func (s *renderer) withDefaults(all, usual map[string]*yaml.Node, tls TLS, logsIn bool, table []shownKey) *yaml.Node {
	if tls == TLSNone {
		for _, key := range tlsKeys[1:] {
			delete(all, key)
			delete(usual, key)
		}
	}
	if !logsIn {
		delete(usual, "auth")
	}
	if all["password_command"] == nil && all["token_command"] == nil && all["password_file"] == nil {
		delete(usual, "password_timeout")
	}
	for key, node := range usual {
		if all[key] == nil {
			all[key] = node
		}
	}
	return mappingNode(all, table)
}

// command shows a program, which may stand alone in the file, with its
// options. One that is none is not shown.
func (s *renderer) commandNode(v value, table []shownKey) *yaml.Node {
	all := defaultNodes(table)
	switch {
	case v.node.Kind == yaml.MappingNode:
		for key, v := range s.fields(v) {
			all[key] = s.copyNode(v)
		}
	case isNone(v.node):
		return nil
	default:
		all["command"] = s.copyNode(v)
	}
	return mappingNode(all, table)
}

// copy returns a value without aliases, comments and secrets.
func (s *renderer) copyNode(v value) *yaml.Node {
	switch v.node.Kind {
	case yaml.MappingNode:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range s.entries(v) {
			appendEntry(m, e.key, s.copyNode(e.value))
		}
		return m
	case yaml.SequenceNode:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range s.items(v) {
			list.Content = append(list.Content, s.copyNode(item))
		}
		return list
	}
	if shown, ok := s.display[v.nodeKey()]; ok {
		return textNode(shown)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: v.node.Tag, Value: v.node.Value}
}

// masked stands in the place of a secret.
const maskedSecret = "***"

// escape writes a path for a file, where it may hold variables.
func escapePath(path string) string { return strings.ReplaceAll(path, "$", "$$") }

// text returns a scalar, in quotes if it could be taken for something else.
func textNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// texts returns a scalar, or a list of several.
func textNodes(all []string) *yaml.Node {
	if len(all) == 1 {
		return textNode(all[0])
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range all {
		list.Content = append(list.Content, textNode(s))
	}
	return list
}

// usual returns what holds where nothing is said.
func defaultNodes(table []shownKey) map[string]*yaml.Node {
	all := map[string]*yaml.Node{}
	for _, k := range table {
		if k.defaultText != "" {
			all[k.key] = &yaml.Node{Kind: yaml.ScalarNode, Value: k.defaultText}
		}
	}
	return all
}

// ordered returns a mapping in the order of a table.
func mappingNode(all map[string]*yaml.Node, table []shownKey) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range table {
		if node := all[k.key]; node != nil {
			appendEntry(m, k.key, node)
		}
	}
	return m
}

func appendEntry(m *yaml.Node, key string, v *yaml.Node) {
	m.Content = append(m.Content, textNode(key), v)
}

func removeEntry(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}
