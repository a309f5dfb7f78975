package config

import (
	"reflect"
	"sync"

	"gopkg.in/yaml.v3"
)

// accountSource holds the parts of the file that say something about an account. The
// parts that accounts share are decoded only once, since there may be thousands of
// accounts.
type accountSource struct {
	account         *yaml.Node
	defaults, oauth func() any
	sinks           map[string]*yaml.Node // by name
}

// decodeOnce returns a function that returns the content of v, nil if v is nil.
func (v *value) decodeOnce() func() any {
	return sync.OnceValue(func() any {
		if v == nil {
			return nil
		}
		return decode(v.node)
	})
}

// SameAs reports whether two versions of the file have the same text about an account,
// the defaults, and the sinks and OAuth clients that it may refer to. Comments and the
// place in the file do not count.
func (a *Account) SameAs(b *Account) bool { return reflect.DeepEqual(a.content(), b.content()) }

// content returns what the file says about an account.
func (a *Account) content() []any {
	parts := []any{decode(a.source.account), a.source.defaults(), a.source.oauth()}
	for _, name := range append(a.Sinks(), a.Quarantine) {
		parts = append(parts, decode(a.source.sinks[name]))
	}
	return parts
}

// decode returns the content of a node, with aliases and merges resolved. It cannot
// fail, since the parser has read the node.
func decode(n *yaml.Node) (v any) {
	if n != nil {
		n.Decode(&v)
	}
	return v
}
