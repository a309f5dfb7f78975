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
	err := enc.Encode(c.show(account))
	return out.Bytes(), err
}

// JSON is YAML as an object of JSON. Durations and sizes are strings.
func (c *Config) JSON(account string) []byte {
	var out bytes.Buffer
	writeJSON(&out, c.show(account))
	return out.Bytes()
}

// shownKey is a key with what holds where nothing is said; "" if that is
// nothing.
type shownKey struct{ key, usual string }

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
	sinkUsual = map[string]string{
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
func (c *Config) show(account string) *yaml.Node {
	s := &shower{&parser{steps: math.MaxInt, shown: c.shown}}
	top := s.fields(c.root)
	defaults := s.fields(top["defaults"])
	all := usual(topShown)
	for _, key := range topShown {
		if v, ok := top[key.key]; ok {
			all[key.key] = s.copy(v)
		}
	}
	all["state"] = text(escape(c.State))

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
			put(&sinks, sink.Name, s.sink(sink, s.fields(ofSinks[sink.Name])))
		}
	}
	ofAccounts := s.fields(top["accounts"])
	for i := range c.Accounts {
		if a := &c.Accounts[i]; account == "" || a.Name == account {
			put(&accounts, a.Name, s.account(a, s.fields(ofAccounts[a.Name]), defaults))
		}
	}
	all["sinks"], all["accounts"] = &sinks, &accounts
	if account != "" {
		return ordered(all, []shownKey{{"sinks", ""}, {"accounts", ""}})
	}
	return ordered(all, topShown)
}

// shower makes the tree.
type shower struct{ *parser }

// fields returns the values of a mapping by their keys, none if v is none.
func (s *shower) fields(v value) map[string]value {
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
func (s *shower) account(a *Account, own, defaults map[string]value) *yaml.Node {
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
		all[key] = s.copy(v)
	}
	for key, table := range map[string][]shownKey{"filter": filterShown, "preconnect": hookShown, "postpoll": hookShown} {
		if v, ok := said[key]; ok {
			all[key] = s.command(v, table)
		}
	}
	if filter := all["filter"]; filter != nil && !a.quarantineRefused {
		remove(filter, "quarantine")
	}
	all["server"] = text(net.JoinHostPort(a.Host, strconv.Itoa(a.port())))
	all["tls"] = text(string(a.TLS))
	all["deliver"] = texts(a.Deliver)
	if route := all["route"]; route != nil {
		remove(route, "default") // which deliver says
	}
	return s.login(all, usual(accountShown), a.TLS, a.Protocol != KPOP, accountShown)
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

func (s *shower) sink(sink *Sink, said map[string]value) *yaml.Node {
	all := map[string]*yaml.Node{}
	for key, v := range said {
		all[key] = s.copy(v)
	}
	var server *Server
	switch {
	case sink.SMTP != nil:
		server = &sink.SMTP.Server
	case sink.IMAP != nil:
		server = &sink.IMAP.Server
	}
	for _, k := range kinds {
		if _, ok := said[k.key]; !ok {
			continue
		}
		var table []shownKey
		for _, key := range append([]string{k.key}, k.options...) {
			if key == "folder" && sink.IMAP == nil || key == "null_sender" && said["sender"].node != nil {
				table = append(table, shownKey{key, ""})
				continue
			}
			table = append(table, shownKey{key, sinkUsual[key]})
		}
		if server == nil {
			return s.login(all, usual(table), TLSImplicit, false, table)
		}
		if !strings.HasPrefix(server.Addr, "/") {
			all[k.key], all["tls"] = text(server.Addr), text(string(server.TLS))
		}
		return s.login(all, usual(table), server.TLS, server.User != "", table)
	}
	return ordered(all, nil)
}

// login fills in what is usual, but for what has no use: certificates without
// TLS, a mechanism without a login, a time limit where nothing takes time. It returns
// all in the order of the table.
func (s *shower) login(all, usual map[string]*yaml.Node, tls TLS, logsIn bool, table []shownKey) *yaml.Node {
	if tls == TLSNone {
		for _, key := range tlsNames[1:] {
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
	return ordered(all, table)
}

// command shows a program, which may stand alone in the file, with its
// options. One that is none is not shown.
func (s *shower) command(v value, table []shownKey) *yaml.Node {
	all := usual(table)
	switch {
	case v.node.Kind == yaml.MappingNode:
		for key, v := range s.fields(v) {
			all[key] = s.copy(v)
		}
	case isNone(v.node):
		return nil
	default:
		all["command"] = s.copy(v)
	}
	return ordered(all, table)
}

// copy returns a value without aliases, comments and secrets.
func (s *shower) copy(v value) *yaml.Node {
	switch v.node.Kind {
	case yaml.MappingNode:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for _, e := range s.entries(v) {
			put(m, e.key, s.copy(e.value))
		}
		return m
	case yaml.SequenceNode:
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range s.items(v) {
			list.Content = append(list.Content, s.copy(item))
		}
		return list
	}
	if shown, ok := s.shown[v.spot()]; ok {
		return text(shown)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: v.node.Tag, Value: v.node.Value}
}

// masked stands in the place of a secret.
const masked = "***"

// escape writes a path for a file, where it may hold variables.
func escape(path string) string { return strings.ReplaceAll(path, "$", "$$") }

// text returns a scalar, in quotes if it could be taken for something else.
func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// texts returns a scalar, or a list of several.
func texts(all []string) *yaml.Node {
	if len(all) == 1 {
		return text(all[0])
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range all {
		list.Content = append(list.Content, text(s))
	}
	return list
}

// usual returns what holds where nothing is said.
func usual(table []shownKey) map[string]*yaml.Node {
	all := map[string]*yaml.Node{}
	for _, k := range table {
		if k.usual != "" {
			all[k.key] = &yaml.Node{Kind: yaml.ScalarNode, Value: k.usual}
		}
	}
	return all
}

// ordered returns a mapping in the order of a table.
func ordered(all map[string]*yaml.Node, table []shownKey) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range table {
		if node := all[k.key]; node != nil {
			put(m, k.key, node)
		}
	}
	return m
}

func put(m *yaml.Node, key string, v *yaml.Node) { m.Content = append(m.Content, text(key), v) }

func remove(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}
