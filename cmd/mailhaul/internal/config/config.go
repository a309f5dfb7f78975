// Package config reads mailhaul's configuration file, and shows it.
//
// Load returns a Config, which holds Sinks and Accounts in the order of the
// file. What it returns is complete: every value is checked, defaults are
// filled in, paths are absolute, and the sinks that accounts name exist. A file
// with mistakes gives an *Error that names all of them, each with its line.
// Secrets are not read with the file: a Password says where one comes from, and
// its Read gets it.
//
// How a file is read:
//
//   - The YAML library makes a tree of nodes (load.go; syntax.go explains its
//     errors).
//   - A parser walks that tree (parser.go). A value is a node with its line and
//     the words that error messages say about its place. A mistake is recorded
//     by parser.fail, and parsing goes on (problem.go).
//   - keyReaders is a table that says, for each key that a mapping may have,
//     how it is read; readMapping applies it (mapping.go). The tables are
//     topReaders (top.go), sinkReaders (sink.go) and accountReaders
//     (account.go), and those for parts that accounts and sinks share: login.go,
//     password.go, oauth.go, server.go (TLS) and via.go (proxies).
//   - Methods such as parser.text, number, duration and path read simple values
//     (value.go); readX reads the option x, and checkX checks how options fit
//     together.
//
// suggest.go has the hints for unknown keys. secretkey.go keeps error messages from
// repeating a secret that a mistake turned into a key. show.go prints the
// configuration with all defaults, for `mailhaul config show`. source.go compares
// what two versions of a file say about an account. find.go finds the file.
package config

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch"
)

// Config is the content of a configuration file, checked.
type Config struct {
	// Path is the file.
	Path string
	// State is the folder in which mailhaul remembers what it has fetched.
	State string
	// Parallel is how many accounts are polled at once, PerHost how many of
	// them on one host.
	Parallel, PerHost int
	// Metrics is the address at which the daemon serves its metrics and its
	// health; MetricsFile is the file that the metrics are written to. Either is
	// empty if it is not wanted.
	Metrics, MetricsFile string
	// Notify is the command that reports trouble to a person, nil if there is
	// none.
	Notify []string
	// Grace is how long a daemon may take to finish its polls when it shuts down.
	Grace time.Duration
	// Sinks and Accounts are in the order of the file.
	Sinks    []Sink
	Accounts []Account

	root    value              // the mapping at the top of the file
	display map[nodeKey]string // how YAML shows the paths and secrets in root
	secrets *secretSettings
}

// Sink is a place that mail is delivered to: either Discard is true, or exactly
// one of the pointers is not nil.
type Sink struct {
	Name    string
	Line    int // in the file
	Maildir *Maildir
	Mbox    *Mbox
	MDA     *MDA
	SMTP    *SMTP
	IMAP    *IMAP
	Discard bool
}

// Maildir is a sink that keeps a file for each message.
type Maildir struct {
	Path string
	// Folder is a Maildir++ subfolder such as ".Lists.Go"; empty is the inbox.
	Folder string
	// Mode is the permission of the message files.
	Mode os.FileMode
}

// Mbox is a sink that keeps all messages in one file.
type Mbox struct {
	Path string
	// LockTimeout is how long to wait while another program has the file locked.
	LockTimeout time.Duration
}

// TLS is how a connection is protected.
type TLS string

// The values of the key tls.
const (
	TLSImplicit TLS = "implicit"
	TLSStart    TLS = "starttls"
	TLSNone     TLS = "none"
)

// Protocol is the protocol spoken with the server of an account.
type Protocol string

// The values of the key protocol. KPOP is POP3 behind Kerberos.
const (
	POP3 Protocol = "pop3"
	KPOP Protocol = "kpop"
)

// Account is one maildrop to poll.
type Account struct {
	Name string
	Host string
	Port int // 0 is the port that Protocol and TLS imply
	Protocol
	Security
	Via
	Login

	// Deliver names the sinks that take all mail or, if Route is not nil, the
	// mail that Route finds no sink for.
	Deliver []string
	Route   *Route
	// Quarantine names the sink for messages that the others refuse; if it is
	// empty, they stay on the server.
	Quarantine string
	Filter     *filter.Options // nil if there is none; its spool is not set

	Keep        fetch.Keep
	MaxSize     int64 // octets; 0 is no limit
	MaxMessages int   // per session; 0 is the default of package fetch

	ReceivedHeader bool
	DeliveredTo    string
	ReturnPath     bool

	// Preconnect is run before each connection, Postpoll after each poll; nil
	// if there is none.
	Preconnect, Postpoll *Hook

	// Every is how often a daemon polls the account; 0 is the default of package
	// fetch.
	Every time.Duration
	// Timeout is the longest silence of the server, TimeLimit the longest
	// poll; 0 is the default of package fetch.
	Timeout, TimeLimit time.Duration
	// Window is the most commands in flight: 0 is automatic, 1 is no
	// pipelining.
	Window int

	quarantineRefused bool     // the option refused is "quarantine"
	routeDefaultLine  int      // line of route's default in the mapping read last; 0 if it has none
	lines             keyLines // keys that are set in the account or in defaults
	source            accountSource
}

// Environ returns the environment for programs that mailhaul runs: its own,
// without the variables that hold secrets.
func (c *Config) Environ() []string {
	if c.secrets == nil {
		return os.Environ()
	}
	return c.secrets.environ()
}

// SerializeSecretCommands makes commands that print secrets run one at a time from now
// on. Each of them may prompt at the terminal, where two prompts at once would get each
// other's answers.
func (c *Config) SerializeSecretCommands() { c.secrets.serial = true }

// secretSettings are shared by a Config and all its Passwords.
type secretSettings struct {
	envVars []string // variables that hold secrets; programs do not get them
	serial  bool     // commands that print secrets run one at a time
}

// environ returns the environment of this process without envVars.
func (s *secretSettings) environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(s.envVars, name)
	})
}

// Sink returns the sink of that name, nil if there is none.
func (c *Config) Sink(name string) *Sink {
	for i := range c.Sinks {
		if c.Sinks[i].Name == name {
			return &c.Sinks[i]
		}
	}
	return nil
}

// Account returns the account of that name, nil if there is none.
func (c *Config) Account(name string) *Account {
	for i := range c.Accounts {
		if c.Accounts[i].Name == name {
			return &c.Accounts[i]
		}
	}
	return nil
}
