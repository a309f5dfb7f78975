package config

import (
	"time"

	"gopkg.in/yaml.v3"
)

// Hook is a command that is run around the polls of an account.
type Hook struct {
	Argv    []string
	Timeout time.Duration
}

// defaultHookTimeout is how long a hook may take.
const defaultHookTimeout = time.Minute

var hookReaders = keyReaders[Hook]{
	"command": func(p *parser, v value, h *Hook) { h.Argv = p.readCommand(v) },
	"timeout": func(p *parser, v value, h *Hook) { p.duration(v, time.Second, time.Hour, &h.Timeout) },
}

// readHook reads a command, or a mapping of a command and its timeout. It returns nil
// for none, which cancels the hook of defaults.
func (p *parser) readHook(v value) *Hook {
	h := &Hook{Timeout: defaultHookTimeout}
	if v.node.Kind == yaml.MappingNode {
		if lines := readMapping(p, v, hookReaders, h); !lines.has("command") {
			p.fail(v, "command: PROGRAM", "command is missing")
		}
		return h
	}
	if isNone(v.node) {
		return nil
	}
	h.Argv = p.readCommand(v)
	return h
}

// readCommand reads a command: a line for the shell, or a list of a program and its
// arguments. It returns nil after a mistake.
func (p *parser) readCommand(v value) []string {
	words, ok := p.texts(v)
	if !ok {
		return nil
	}
	if len(v.node.Content) == 0 {
		if !p.checkNotTruncated(v) {
			return nil
		}
		return []string{"sh", "-c", words[0]}
	}
	if !p.resolveProgram(v, words) {
		return nil
	}
	return words
}
