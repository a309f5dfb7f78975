package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// The peers, each as its manual says that it is to be set up for the job, and
// otherwise with its defaults. None is made to verify, to log or to rewrite
// more than it does by itself.

// fetchmail delivers to a server or a program only. The least program is cat:
// it makes a file, under a name that is free, and syncs nothing.
var fetchmail = contender{name: "fetchmail", program: "fetchmail", peer: true, prepare: func(j job) ([]command, error) {
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
			b.WriteString(" nokeep fetchall") // fetchall: by RETR, which is faster than by TOP
		}
		if j.caFile != "" {
			fmt.Fprintf(&b, " ssl sslcertck sslcertfile %q", j.caFile)
		} else {
			b.WriteString(" sslproto ''") // else it would ask for STLS
		}
		b.WriteByte('\n')
	}
	return []command{{
		Argv:         []string{"fetchmail", "--silent", "--fetchmailrc", j.path("fetchmailrc")},
		SuccessCodes: []int{1}, // there was no mail
	}}, j.writeFile("fetchmailrc", b.String())
}, markSeen: func(j job, user string, uids []string) error {
	return j.appendSeen(".fetchids", uids, func(uid string) string { return user + "@" + j.host + " " + uid })
}}

// mpop delivers into a Maildir. Accounts are fetched one after the other.
var mpop = contender{name: "mpop", program: "mpop", peer: true, prepare: func(j job) ([]command, error) {
	return []command{{Argv: []string{"mpop", "--quiet", "--file=" + j.path("mpoprc"), "--all-accounts"}}}, mpopConfig(j)
}}

// mpopEach is a process for each account, all at once.
var mpopEach = contender{name: "mpop (a process each)", program: "mpop", peer: true, concurrent: true, processPerAccount: true, prepare: func(j job) ([]command, error) {
	var all []command
	for _, u := range j.users {
		all = append(all, command{Argv: []string{"mpop", "--quiet", "--file=" + j.path("mpoprc"), accountName(u)}})
	}
	return all, mpopConfig(j)
}}

func mpopConfig(j job) error {
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
		b.WriteString("tls off\nauth plain\n") // it would choose none that anybody can read
	}
	for _, u := range j.users {
		fmt.Fprintf(&b, "account %s\nuser %s\n", accountName(u), u)
	}
	return j.writeFile("mpoprc", b.String())
}

// getmail6 has a file for each account, which it reads one after the other.
var getmail = contender{name: "getmail6", program: "getmail", peer: true, prepare: func(j job) ([]command, error) {
	argv := []string{"getmail", "--getmaildir", j.dir, "--quiet"}
	for _, u := range j.users {
		argv = append(argv, "--rcfile", accountName(u)+".rc")
	}
	return []command{{Argv: argv}}, getmailConfig(j)
}, markSeen: rememberGetmail}

// getmailEach is what the script getmails -p does: a process for each account,
// all at once.
var getmailEach = contender{name: "getmail6 (a process each)", program: "getmail", peer: true, concurrent: true, processPerAccount: true, prepare: func(j job) ([]command, error) {
	var all []command
	for _, u := range j.users {
		all = append(all, command{Argv: []string{"getmail", "--getmaildir", j.dir, "--quiet", "--rcfile", accountName(u) + ".rc"}})
	}
	return all, getmailConfig(j)
}, markSeen: rememberGetmail}

func rememberGetmail(j job, user string, uids []string) error {
	return j.appendSeen("oldmail-"+j.host+"-"+j.port+"-"+user, uids, func(uid string) string { return uid + "\x001700000000" })
}

func getmailConfig(j job) error {
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

// fdm delivers into a Maildir. Without a cache it would fetch all mail that it
// keeps anew.
var fdm = contender{name: "fdm", program: "fdm", peer: true, prepare: func(j job) ([]command, error) {
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
}, markSeen: func(j job, user string, uids []string) error {
	return j.appendSeen("cache-"+accountName(user), uids, func(uid string) string { return fmt.Sprintf("%d %s", len(uid), uid) })
}}

// remember adds a line for each unique-id to what a peer remembers.
func (j job) appendSeen(name string, uids []string, line func(uid string) string) error {
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

// fdmAll is fdm with several accounts: it fetches from all of them at once.
func fdmConcurrent() contender {
	all := fdm
	all.concurrent = true
	return all
}

// environment is that of every command. SSL_CERT_FILE is how fdm, which has
// no option for it, is told whom to trust.
func environment(j job) []string {
	env := []string{"HOME=" + j.dir, "TMPDIR=" + j.dir, "LANG=C", "PATH=/usr/local/bin:/usr/bin:/bin"}
	if j.caFile != "" {
		env = append(env, "SSL_CERT_FILE="+j.caFile)
	}
	return env
}
