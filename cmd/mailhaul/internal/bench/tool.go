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
	dir   string // of its own: HOME, configuration, state and Maildir
	host  string
	port  string
	ca    string // a file; TLS from the first octet if set
	users []string
	keep  bool // leave the mail on the server, and remember it
	self  string
	our   string // the mailhaul to run
}

func (j job) maildir() string         { return filepath.Join(j.dir, "Maildir") }
func (j job) path(name string) string { return filepath.Join(j.dir, name) }
func (j job) write(name, text string) error {
	return os.WriteFile(j.path(name), []byte(text), 0o600)
}

// account is a name for a user in configurations.
func account(user string) string {
	name, _, _ := strings.Cut(user, "@")
	return name
}

// contender is one way to do a job.
type contender struct {
	name    string
	program string // the executable; its package and its version are told by it
	peer    bool   // somebody else's
	atOnce  bool   // it fetches from all accounts at once
	many    bool   // by a process for each, which somebody must start
	// prepare writes the configuration into the job's folder and returns what
	// to run.
	prepare func(job) ([]command, error)
	// remember notes that a user's messages have been seen, as the program
	// itself does. nil: it is quick enough to fetch them all.
	remember func(j job, user string, uids []string) error
}

const drainName = "drain"

// theDrain drains over n connections at once.
func theDrain(name string, n int) contender {
	return contender{name: name, program: drainName, prepare: func(j job) ([]command, error) {
		o := drainOrder{Addr: j.host + ":" + j.port, CAFile: j.ca, Users: j.users, Connections: min(n, len(j.users))}
		if !j.keep {
			o.Maildir = j.maildir()
		}
		return []command{{Argv: []string{j.self, "drain", j.path("drain.json")}}}, writeJSON(j.path("drain.json"), o)
	}}
}

// mailhaul fetches from n accounts at once.
func mailhaul(name string, n int) contender {
	return contender{name: name, program: "mailhaul", prepare: func(j job) ([]command, error) {
		var b strings.Builder
		b.WriteString("state: state\nsinks: { inbox: { maildir: Maildir } }\n")
		if n > 1 {
			fmt.Fprintf(&b, "parallel: %d\nper_host: %[1]d\n", n)
		}
		fmt.Fprintf(&b, "defaults:\n  server: %s:%s\n  password: %s\n", j.host, j.port, password)
		if j.ca != "" {
			fmt.Fprintf(&b, "  tls: implicit\n  tls_ca: %s\n", j.ca)
		} else {
			b.WriteString("  tls: none\n")
		}
		if j.keep {
			// One session, however many there are to learn of.
			b.WriteString("  keep: forever\n  max_messages: 1000000\n")
		}
		b.WriteString("accounts:\n")
		for _, u := range j.users {
			fmt.Fprintf(&b, "  %s: { user: %s }\n", account(u), u)
		}
		return []command{{Argv: []string{j.our, "fetch", "--quiet", "--config", j.path("mailhaul.yaml")}}}, j.write("mailhaul.yaml", b.String())
	}}
}
