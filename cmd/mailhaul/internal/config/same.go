package config

import (
	"reflect"

	"gopkg.in/yaml.v3"
)

// source is where the file speaks of an account; a part that it does not have
// is nil.
type source struct{ account, defaults, sinks, oauth *yaml.Node }

// tree returns the node of a part of the file, nil if it has none.
func (v *value) tree() *yaml.Node {
	if v == nil {
		return nil
	}
	return v.node
}

// SameAs reports whether two files say the same of an account, and of all that
// it refers to. Comments, and where in the file something stands, do not count.
func (a *Account) SameAs(b *Account) bool { return reflect.DeepEqual(a.said(), b.said()) }

// said returns what the file says of an account.
func (a *Account) said() []any {
	said := []any{plain(a.source.account), plain(a.source.defaults), plain(a.source.oauth)}
	sinks, _ := plain(a.source.sinks).(map[string]any)
	for _, name := range a.Sinks() {
		said = append(said, sinks[name])
	}
	return said
}

// plain returns what a node holds, aliases and merges resolved. The file was
// read before, so that there is no error to be had.
func plain(n *yaml.Node) (v any) {
	if n != nil {
		n.Decode(&v)
	}
	return v
}
