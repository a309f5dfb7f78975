package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// The other fetchers. Each is configured as its manual says for the job, and otherwise
// has its defaults.

var (
	fetchmail = contender{name: "fetchmail", program: "fetchmail", peer: true, prepare: prepareFetchmail, markSeen: markSeenFetchmail}

	// mpop fetches from one account after the other.
	mpop = contender{name: "mpop", program: "mpop", peer: true, prepare: prepareMpop}
	// mpopEach has a process for each account.
	mpopEach = contender{name: "mpop (a process each)", program: "mpop", peer: true, concurrent: true, processPerAccount: true, prepare: prepareMpopEach}

	// getmail fetches from one account after the other.
	getmail = contender{name: "getmail6", program: "getmail", peer: true, prepare: prepareGetmail, markSeen: markSeenGetmail}
	// getmailEach has a process for each account, as the script getmails -p does it.
	getmailEach = contender{name: "getmail6 (a process each)", program: "getmail", peer: true, concurrent: true, processPerAccount: true, prepare: prepareGetmailEach, markSeen: markSeenGetmail}

	fdm = contender{name: "fdm", program: "fdm", peer: true, prepare: prepareFdm, markSeen: markSeenFdm}
)

// fdmConcurrent returns fdm for a job with several accounts: it fetches from all of them
// at once.
func fdmConcurrent() contender {
	c := fdm
	c.concurrent = true
	return c
}

// prepareFetchmail delivers with cat. fetchmail itself delivers only to a server or a
// program, and cat is the cheapest one: it writes a file with an unused name, and syncs
// nothing.
func prepareFetchmail(j job) ([]command, error) {
	var b strings.Builder
	b.WriteString("set no bouncemail\n")
	fmt.Fprintf(&b, "poll %s protocol POP3 port %s", j.host, j.port)
	if j.keep {
		b.WriteString(" uidl")
	}
	b.WriteByte('\n')
	for _, u := range j.users {
		fmt.Fprintf(&b, "  user %q password %q no rewrite mda %q", u, password, "cat >"+j.maildir()+"/new/$$")
		if j.keep {
			b.WriteString(" keep")
		} else {
			b.WriteString(" nokeep fetchall") // with fetchall it uses RETR, which is faster than TOP
		}
		if j.caFile != "" {
			fmt.Fprintf(&b, " ssl sslcertck sslcertfile %q", j.caFile)
		} else {
			b.WriteString(" sslproto ''") // so that it does not try STLS
		}
		b.WriteByte('\n')
	}
	return []command{{
		Argv:         []string{"fetchmail", "--silent", "--fetchmailrc", j.path("fetchmailrc")},
		SuccessCodes: []int{1}, // there was no mail
	}}, j.writeFile("fetchmailrc", b.String())
}

func markSeenFetchmail(j job, user string, uids []string) error {
	return j.appendLines(".fetchids", uids, func(uid string) string { return user + "@" + j.host + " " + uid })
}

func prepareMpop(j job) ([]command, error) {
	return []command{{Argv: []string{"mpop", "--quiet", "--file=" + j.path("mpoprc"), "--all-accounts"}}}, writeMpopConfig(j)
}

func prepareMpopEach(j job) ([]command, error) {
	var all []command
	for _, u := range j.users {
		all = append(all, command{Argv: []string{"mpop", "--quiet", "--file=" + j.path("mpoprc"), accountName(u)}})
	}
	return all, writeMpopConfig(j)
}

func writeMpopConfig(j job) error {
	var b strings.Builder
	fmt.Fprintf(&b, "defaults\nhost %s\nport %s\npassword %s\ndelivery maildir %s\nuidls_file %s\n", j.host, j.port, password, j.maildir(), j.path("uidls-%U"))
	if j.keep {
		b.WriteString("keep on\n")
	} else {
		b.WriteString("keep off\n")
	}
	if j.caFile != "" {
		fmt.Fprintf(&b, "tls on\ntls_starttls off\ntls_trust_file %s\n", j.caFile)
	} else {
		b.WriteString("tls off\nauth plain\n") // by itself it would not send a password without TLS
	}
	for _, u := range j.users {
		fmt.Fprintf(&b, "account %s\nuser %s\n", accountName(u), u)
	}
	return j.writeFile("mpoprc", b.String())
}

func prepareGetmail(j job) ([]command, error) {
	argv := []string{"getmail", "--getmaildir", j.dir, "--quiet"}
	for _, u := range j.users {
		argv = append(argv, "--rcfile", accountName(u)+".rc")
	}
	return []command{{Argv: argv}}, writeGetmailConfigs(j)
}

func prepareGetmailEach(j job) ([]command, error) {
	var all []command
	for _, u := range j.users {
		all = append(all, command{Argv: []string{"getmail", "--getmaildir", j.dir, "--quiet", "--rcfile", accountName(u) + ".rc"}})
	}
	return all, writeGetmailConfigs(j)
}

func markSeenGetmail(j job, user string, uids []string) error {
	return j.appendLines("oldmail-"+j.host+"-"+j.port+"-"+user, uids, func(uid string) string { return uid + "\x001700000000" })
}

// writeGetmailConfigs writes a file for each account.
func writeGetmailConfigs(j job) error {
	for _, u := range j.users {
		var b strings.Builder
		if j.caFile != "" {
			fmt.Fprintf(&b, "[retriever]\ntype = SimplePOP3SSLRetriever\nca_certs = %s\n", j.caFile)
		} else {
			b.WriteString("[retriever]\ntype = SimplePOP3Retriever\n")
		}
		fmt.Fprintf(&b, "server = %s\nport = %s\nusername = %s\npassword = %s\n", j.host, j.port, u, password)
		fmt.Fprintf(&b, "[destination]\ntype = Maildir\npath = %s/\n", j.maildir())
		if j.keep {
			b.WriteString("[options]\nread_all = false\ndelete = false\n")
		} else {
			b.WriteString("[options]\ndelete = true\n")
		}
		if err := j.writeFile(accountName(u)+".rc", b.String()); err != nil {
			return err
		}
	}
	return nil
}

// prepareFdm sets a cache if mail is kept: without one, fdm would fetch it again.
func prepareFdm(j job) ([]command, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "set lock-file %q\nset maximum-size 1G\naction \"in\" maildir %q\n", j.path("fdm.lock"), j.maildir())
	kind := "pop3"
	if j.caFile != "" {
		kind = "pop3s"
		b.WriteString("set verify-certificates\n")
	}
	for _, u := range j.users {
		fmt.Fprintf(&b, "account %q %s server %q port %s user %q pass %q", accountName(u), kind, j.host, j.port, u, password)
		if j.keep {
			fmt.Fprintf(&b, " new-only cache %q keep", j.path("cache-"+accountName(u)))
		}
		b.WriteByte('\n')
	}
	b.WriteString("match all action \"in\"\n")
	return []command{{Argv: []string{"fdm", "-q", "-f", j.path("fdm.conf"), "fetch"}}}, j.writeFile("fdm.conf", b.String())
}

func markSeenFdm(j job, user string, uids []string) error {
	return j.appendLines("cache-"+accountName(user), uids, func(uid string) string { return fmt.Sprintf("%d %s", len(uid), uid) })
}

// appendLines appends a line for each unique-id to a file in the job's folder.
func (j job) appendLines(name string, uids []string, line func(uid string) string) error {
	f, err := os.OpenFile(j.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, uid := range uids {
		b.WriteString(line(uid) + "\n")
	}
	_, err = f.WriteString(b.String())
	return errors.Join(err, f.Close())
}

// environment returns the environment of all commands of a job. fdm has no option for
// the certificate authority: it uses SSL_CERT_FILE.
func environment(j job) []string {
	env := []string{"HOME=" + j.dir, "TMPDIR=" + j.dir, "LANG=C", "PATH=/usr/local/bin:/usr/bin:/bin"}
	if j.caFile != "" {
		env = append(env, "SSL_CERT_FILE="+j.caFile)
	}
	return env
}
