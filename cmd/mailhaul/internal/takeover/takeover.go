// Package takeover translates the configurations of fetchmail, mpop, getmail and fdm into
// a configuration of mailhaul.
//
// Fetchmail, Mpop, Getmail and Fdm each parse a configuration and return a Config: sinks,
// accounts, and Remarks on what has no counterpart, differs here, or is left to a
// person. Config.YAML returns it as a file. Nothing in the other configuration is ever
// run. An account with a part that has no safe translation is disabled: it becomes a
// comment in the file.
//
// For each account of the other fetcher, a translator begins a draft, adds keys and
// remarks to it, and finishes it. What to open:
//
//	builder.go          what the translators share: builder and draft
//	fetchmail.go        fetchmail: its options
//	fetchmail_dump.go   what fetchmail --configdump prints
//	mpop.go             mpop: its commands
//	mpop_rc.go          its configuration file
//	getmail.go          getmail: its options; also getmail_filter.go, getmail_sinks.go
//	getmail_rc.go       its configuration files
//	fdm.go              fdm: its accounts and rules
//	fdm_conf.go         its configuration file, in the tokens of fdm_lex.go
//	netrc.go            passwords in .netrc files
//	python.go           literals of Python, for fetchmail and getmail
//	shell.go            command lines for a shell, as safe commands
//	yaml.go             the file that is written
package takeover

// Config is a translated configuration.
type Config struct {
	// Defaults, Sinks and Accounts are the sections with those names, in the order of
	// the other configuration.
	Defaults []Key
	Sinks    []Section
	Accounts []Account
	Remarks  []Remark
}

// Account is a translated account.
type Account struct {
	Section
	// SeenFile is the file in which the other fetcher remembers what it left on the
	// server (see package oldids), empty if it leaves nothing there.
	SeenFile string
	// SeenFileMissing is set if that file does not exist. It is for the caller to set.
	SeenFileMissing bool
	// Disabled is set if the account cannot be used as it is, or was not in use. It is
	// written as a comment, and a Remark says what is to be done.
	Disabled bool
}

// Section is the section of a sink or an account.
type Section struct {
	Name string
	Keys []Key
}

// Key is a key of a configuration. Its value is a string, a bool, an int, a []string or,
// for a nested section, a []Key.
type Key struct {
	Name  string
	Value any
}

// Remark tells a person something about an account, or about the whole file if About is
// empty.
type Remark struct {
	About string // the name of a translated account
	Text  string
}
