package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// job is what a contender is to do, once: fetch all mail of the users from a
// server into dir/Maildir.
type job struct {
	dir          string // of its own: HOME, configuration, state and Maildir
	host         string
	port         string
	caFile       string // a file; TLS from the first octet if set
	users        []string
	keep         bool // leave the mail on the server, and remember it
	selfPath     string
	mailhaulPath string // the mailhaul to run
}

func (j job) maildir() string         { return filepath.Join(j.dir, "Maildir") }
func (j job) path(name string) string { return filepath.Join(j.dir, name) }
func (j job) writeFile(name, text string) error {
	return os.WriteFile(j.path(name), []byte(text), 0o600)
}

// account is a name for a user in configurations.
func accountName(user string) string {
	name, _, _ := strings.Cut(user, "@")
	return name
}

// contender is one way to do a job.
type contender struct {
	name              string
	program           string // the executable; its package and its version are told by it
	peer              bool   // somebody else's
	concurrent        bool   // it fetches from all accounts at once
	processPerAccount bool   // by a process for each, which somebody must start
	// prepare writes the configuration into the job's folder and returns what
	// to run.
	prepare func(job) ([]command, error)
	// remember notes that a user's messages have been seen, as the program
	// itself does. nil: it is quick enough to fetch them all.
	markSeen func(j job, user string, uids []string) error
}

const drainName = "drain"

// theDrain drains over n connections at once.
func drainWith(name string, n int) contender {
	return contender{name: name, program: drainName, prepare: func(j job) ([]command, error) {
		o := drainJob{Addr: j.host + ":" + j.port, CAFile: j.caFile, Users: j.users, Connections: min(n, len(j.users))}
		if !j.keep {
			o.Maildir = j.maildir()
		}
		return []command{{Argv: []string{j.selfPath, "drain", j.path("drain.json")}}}, writeJSON(j.path("drain.json"), o)
	}}
}

// mailhaul fetches from n accounts at once.
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
			// One session, however many there are to learn of.
			b.WriteString("  keep: forever\n  max_messages: 1000000\n")
		}
		b.WriteString("accounts:\n")
		for _, u := range j.users {
			fmt.Fprintf(&b, "  %s: { user: %s }\n", accountName(u), u)
		}
		return []command{{Argv: []string{j.mailhaulPath, "fetch", "--quiet", "--config", j.path("mailhaul.yaml")}}}, j.writeFile("mailhaul.yaml", b.String())
	}}
}
