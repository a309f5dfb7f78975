// Package crashtest runs the real program against a server in the process of
// the test, kills it at chosen system calls and at random moments, fills its
// disk and measures its memory. It holds tests only. docs/reliability.md says
// what they show.
package crashtest
