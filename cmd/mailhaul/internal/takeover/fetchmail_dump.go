package takeover

import (
	"fmt"
	"strings"
)

// parseDump reads what fetchmail --configdump prints: assignments of Python, whose
// values are literals. It returns the values by name. The error has the line, but shows
// nothing of it, which may be a password.
func parseDump(text string) (map[string]any, error) {
	p := pythonParser{text: text, dump: true}
	vars := map[string]any{}
	for p.skip(); p.at < len(p.text); p.skip() {
		if p.consume(";") {
			continue
		}
		name := p.read(pythonName)
		var value any
		err := errNotLiteral
		if name != "" && p.consume("=") {
			value, err = p.value(0)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d is not what fetchmail --configdump prints", 1+strings.Count(p.text[:p.at], "\n"))
		}
		vars[name] = value
	}
	return vars, nil
}

// fetchmailOptions are the values in a part of the dump, by fetchmail's names.
type fetchmailOptions map[string]any

// The following return the value of a key, or zero if it has another type, such as None.

func (o fetchmailOptions) text(key string) string { s, _ := o[key].(string); return s }
func (o fetchmailOptions) number(key string) int  { n, _ := o[key].(int); return n }
func (o fetchmailOptions) flag(key string) bool   { b, _ := o[key].(bool); return b }
func (o fetchmailOptions) list(key string) []any  { l, _ := o[key].([]any); return l }

// sections returns a list of parts.
func (o fetchmailOptions) sections(key string) (all []fetchmailOptions) {
	for _, item := range o.list(key) {
		if section, ok := item.(map[string]any); ok {
			all = append(all, section)
		}
	}
	return all
}
