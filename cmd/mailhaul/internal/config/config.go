// Package config reads the configuration file. It knows YAML so that nobody
// else has to: what it returns is checked, absolute and ready to be wired.
package config

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/deliver/filter"
	"github.com/mailhaul/mailhaul/fetch"
)

// Config is a configuration file, checked.
type Config struct {
	// Path is the file.
	Path string
	// State is the folder in which mailhaul remembers what it has fetched.
	State string
	// Parallel is how many accounts are polled at once, PerHost how many of
	// them on one host.
	Parallel, PerHost int
	// Metrics is the address at which the daemon serves its metrics and its
	// health; MetricsFile is where they are written as text. Empty is not.
	Metrics, MetricsFile string
	// Notify is the command that tells a person of trouble, nil if there is
	// none.
	Notify []string
	// Grace is how long a daemon that is to end may take to finish its polls.
	Grace time.Duration
	// Sinks and Accounts are in the order of the file.
	Sinks    []Sink
	Accounts []Account

	root           value              // what the file says, to be shown
	shown          map[nodeKey]string // as the parser has it
	secretVars     []string           // the variables that hold secrets
	serialCommands *bool              // commands of secrets run one at a time
}

// Sink is a place for mail: Discard, or the one whose pointer is not nil.
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
	// LockTimeout is how long to wait for another program to let go of it.
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

// Protocol is what is spoken with the server of an account.
type Protocol string

// The values of the key protocol. POP3 behind Kerberos is KPOP.
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

	// Deliver names the sinks that take all mail, or what Route, if not nil,
	// finds none for. Quarantine names one too; if it is empty, what a sink
	// refuses stays on the server.
	Deliver    []string
	Route      *Route
	Quarantine string
	Filter     *filter.Options // nil if there is none; it lacks a spool

	Keep        fetch.Keep
	MaxSize     int64 // octets; 0 is no limit
	MaxMessages int   // a session; 0 leaves it to fetch

	ReceivedHeader bool
	DeliveredTo    string
	ReturnPath     bool

	// Preconnect is run before each connection, Postpoll after each poll; nil
	// if there is none.
	Preconnect, Postpoll *Hook

	// Every is how often a daemon polls it; 0 leaves it to fetch.
	Every time.Duration
	// Timeout is the longest silence of the server, TimeLimit the longest
	// poll; 0 leaves them to fetch.
	Timeout, TimeLimit time.Duration
	// Window is the most commands in flight; 0 leaves it to the server, 1 is
	// no pipelining.
	Window int

	quarantineRefused bool           // refused: quarantine
	routeDefaultLine  int            // of the default of the route that was read last
	lines             map[string]int // of the keys that were set, here or in defaults
	source            accountSource
}

// Environ returns the environment for programs that are run, which is ours
// without the variables that hold secrets.
func (c *Config) Environ() []string { return environWithout(c.secretVars) }

// AskInTurn has the commands of secrets run one at a time from now on: each may have to
// ask a person, and two who ask at one terminal take each other's answers.
func (c *Config) AskInTurn() { *c.serialCommands = true }

func environWithout(names []string) []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(names, name)
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
