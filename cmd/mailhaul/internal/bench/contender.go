package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// job is what a contender has to do in one run: fetch all mail of the users from a server
// into the Maildir in dir.
type job struct {
	dir          string // a new folder for the configuration, the state and the Maildir; also HOME
	host         string
	port         string
	caFile       string // if it is set, the server has implicit TLS with this authority
	users        []string
	keep         bool // leave the mail on the server, and remember it
	selfPath     string
	mailhaulPath string
}

func (j job) maildir() string         { return j.path("Maildir") }
func (j job) path(name string) string { return filepath.Join(j.dir, name) }
func (j job) writeFile(name, text string) error {
	return os.WriteFile(j.path(name), []byte(text), 0o600)
}

// accountName returns the name of a user's account in configurations.
func accountName(user string) string {
	name, _, _ := strings.Cut(user, "@")
	return name
}

// contender is a program, set up in one of the ways that are compared.
type contender struct {
	name              string
	program           string // the name of the executable
	peer              bool   // it is another project's fetcher
	concurrent        bool   // a peer that fetches from all accounts at once
	processPerAccount bool   // all of its commands run at once, one for each account
	// prepare writes the configuration into the job's folder, and returns the commands to
	// run.
	prepare func(job) ([]command, error)
	// markSeen adds messages to the file in which a peer remembers what it has fetched.
	// If it is nil, the contender is fast enough to fetch them instead.
	markSeen func(j job, user string, uids []string) error
}

// drainName is the name of the drain with one connection, and its subcommand.
const drainName = "drain"

// drainWith returns the drain with n connections at once.
func drainWith(name string, n int) contender {
	return contender{name: name, program: drainName, prepare: func(j job) ([]command, error) {
		d := drainJob{Addr: net.JoinHostPort(j.host, j.port), CAFile: j.caFile, Users: j.users, Connections: min(n, len(j.users))}
		if !j.keep {
			d.Maildir = j.maildir()
		}
		return []command{{Argv: []string{j.selfPath, drainName, j.path("drain.json")}}}, writeJSON(j.path("drain.json"), d)
	}}
}

// mailhaulWith returns mailhaul with n polls at once.
func mailhaulWith(name string, n int) contender {
	return contender{name: name, program: "mailhaul", prepare: func(j job) ([]command, error) {
		var b strings.Builder
		b.WriteString("state: state\nsinks: { inbox: { maildir: Maildir } }\n")
		if n > 1 {
			fmt.Fprintf(&b, "parallel: %d\nper_host: %[1]d\n", n)
		}
		fmt.Fprintf(&b, "defaults:\n  server: %s:%s\n  password: %s\n", j.host, j.port, password)
		if j.caFile != "" {
			fmt.Fprintf(&b, "  tls: implicit\n  tls_ca: %s\n", j.caFile)
		} else {
			b.WriteString("  tls: none\n")
		}
		if j.keep {
			// One session has to take all messages in.
			b.WriteString("  keep: forever\n  max_messages: 1000000\n")
		}
		b.WriteString("accounts:\n")
		for _, u := range j.users {
			fmt.Fprintf(&b, "  %s: { user: %s }\n", accountName(u), u)
		}
		return []command{{Argv: []string{j.mailhaulPath, "fetch", "--quiet", "--config", j.path("mailhaul.yaml")}}}, j.writeFile("mailhaul.yaml", b.String())
	}}
}
