package config

import (
	"net"
	"path/filepath"
	"strconv"
)

// metricsFile reads a path whose name the collector of text files takes.
func (p *parser) metricsFile(v value, into *string) {
	s, ok := p.path(v)
	if ok && filepath.Ext(s) != ".prom" {
		p.fail(v, "node_exporter reads only files that end in .prom", "%s cannot be used", quote(s))
		return
	}
	*into = s
}

// listen reads the address to listen at, host:port.
func (p *parser) listen(v value, into *string) {
	s, ok := p.text(v)
	if !ok {
		return
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		p.fail(v, "write host:port, such as 127.0.0.1:9110", "%s is not an address to listen at", quote(s))
		return
	}
	*into = s
}

// shellOrArgv reads a line for the shell, or a program and its arguments.
func (p *parser) shellOrArgv(v value) []string {
	words, ok := p.texts(v)
	if !ok {
		return nil
	}
	if len(v.node.Content) == 0 {
		if !p.whole(v) {
			return nil
		}
		return []string{"sh", "-c", words[0]}
	}
	return words
}
