// Package takeover reads the configurations of fetchmail, mpop and getmail, and says in
// ours what they say. What it cannot say, it tells.
package takeover

// Config is what the configuration of another fetcher comes to in ours.
type Config struct {
	// Defaults are keys for all accounts, Sinks and Accounts the sections of those
	// names, in the order of the other's file.
	Defaults []Key
	Sinks    []Section
	Accounts []Account
	// Remarks tell what has no counterpart, means something else here, or is left to
	// a person.
	Remarks []Remark
}

// Account is an account of ours.
type Account struct {
	Section
	// Seen is the file in which the other remembers what it left on the server (see
	// package oldids), empty if it leaves nothing there.
	SeenFile string
	// Lost is whether there is no such file. Nothing that reads a configuration looks.
	SeenFileMissing bool
	// Off is an account that cannot be used as it is, or was not in use. It is written
	// as a comment; a remark tells what is missing.
	Disabled bool
}

// Section is a sink or an account, by its name.
type Section struct {
	Name string
	Keys []Key
}

// Key is a key of a configuration. Its value is a string, a bool, an int, a []string or,
// for a section within, a []Key.
type Key struct {
	Name  string
	Value any
}

// Remark tells a person something about a part of the other's configuration: an account
// by the name that it has in ours, or the file as a whole if About is empty.
type Remark struct {
	About, Text string
}
