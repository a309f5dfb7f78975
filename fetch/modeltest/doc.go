// Package modeltest proves that a message is neither lost nor delivered twice,
// whatever crashes and whenever. It has nothing but tests.
//
// They run the real poll of package fetch, with the real Maildir and mbox
// sinks, over a disk, a journal and a POP3 server in memory. Before every
// operation on the disk, every record of the journal and around every QUIT the
// process is killed or the power is cut, and each state that this may leave is
// polled again, in which the same may happen, some times in a row. Meanwhile
// QUIT goes wrong in all the ways it can, and a mail reader moves and removes
// the mail, and another program delivers some, at any moment at which they
// could. States that were met before are not explored again.
package modeltest
