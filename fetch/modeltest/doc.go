// Package modeltest proves that a message is neither lost nor delivered twice,
// whatever crashes and whenever. It has nothing but tests.
//
// They run the real poll of package fetch, with the real Maildir and mbox sinks,
// over a disk, a journal and a POP3 server in memory. The process is killed, or the
// power is cut, before every operation on the disk, before every record of the
// journal, and around every QUIT. Each state that this may leave is polled again,
// and the same may happen then, several times in a row. Meanwhile QUIT goes wrong in
// every way, a mail reader moves and removes mail, and another program delivers
// some, at every moment at which they could. States that were met before are not
// explored again.
//
//   - model_test.go: the tests, and what they explore
//   - explore_test.go: the exploration of everything that may happen
//   - run_test.go: one process, and what happens while it runs
//   - world_test.go: what outlives a process, and what must hold of it
//   - sinkkind_test.go: the two kinds of sink, and what others do with the mail in them
//   - server_test.go: the POP3 server
//   - journal_test.go: the journal; journal_store_test.go compares it with package state
//   - sequencer_test.go: a fixed order for the goroutines of a session
//   - sabotage_test.go: mistakes that the model must notice
package modeltest
