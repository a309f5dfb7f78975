package config

import (
	"reflect"
	"sync"

	"gopkg.in/yaml.v3"
)

// source is where the file speaks of an account. What it says of all of them is
// decoded once, since there may be thousands.
type accountSource struct {
	account         *yaml.Node
	defaults, oauth func() any
	sinks           map[string]*yaml.Node
}

// once returns a function that returns what a part of the file holds, nil if it
// has none.
func (v *value) decodeOnce() func() any {
	return sync.OnceValue(func() any {
		if v == nil {
			return nil
		}
		return decode(v.node)
	})
}

// SameAs reports whether two files say the same of an account, and of all that
// it refers to. Comments, and where in the file something stands, do not count.
func (a *Account) SameAs(b *Account) bool { return reflect.DeepEqual(a.content(), b.content()) }

// said returns what the file says of an account.
func (a *Account) content() []any {
	said := []any{decode(a.source.account), a.source.defaults(), a.source.oauth()}
	for _, name := range append(a.Sinks(), a.Quarantine) {
		said = append(said, decode(a.source.sinks[name]))
	}
	return said
}

// plain returns what a node holds, aliases and merges resolved. The file was
// read before, so that there is no error to be had.
func decode(n *yaml.Node) (v any) {
	if n != nil {
		n.Decode(&v)
	}
	return v
}
