package config

import (
	"slices"
	"strings"
)

// foreignKeys maps the keys of other programs to ours. A hint may say how to write the
// value, after a colon.
var foreignKeys = map[string]string{
	"host":              "server",
	"poll":              "server",
	"via":               "server",
	"port":              "server: host:port",
	"service":           "server: host:port",
	"proto":             "protocol",
	"username":          "user",
	"login":             "user",
	"pass":              "password",
	"passwordcmd":       "password_command",
	"passwordeval":      "password_command",
	"ssl":               "tls",
	"sslproto":          "tls",
	"tls_starttls":      "tls",
	"starttls":          "tls",
	"sslfingerprint":    "tls_fingerprint",
	"ssl_fingerprints":  "tls_fingerprint",
	"sslcertfile":       "tls_ca",
	"sslcertpath":       "tls_ca",
	"tls_trust_file":    "tls_ca",
	"ca_certs":          "tls_ca",
	"sslcommonname":     "tls_name",
	"ssl_cert_hostname": "tls_name",
	"tls_host_override": "tls_name",
	"sslcert":           "tls_cert",
	"certfile":          "tls_cert",
	"tls_cert_file":     "tls_cert",
	"sslkey":            "tls_key",
	"keyfile":           "tls_key",
	"tls_key_file":      "tls_key",
	"mailbox":           "folder",
	"filemode":          "mode",
	"sink":              "deliver",
	"delete":            "keep",
	"delete_after":      "keep",
	"limit":             "max_size",
	"max_message_size":  "max_size",
	"skipsize":          "max_size",
	"maximum-size":      "max_size",
	"expunge":           "max_messages",
	"purge-after":       "max_messages",
	"interval":          "every",
	"plugin":            "tunnel",
	"proxy_host":        "socks5",
	"proxy":             "socks5",
	"socket":            "tunnel",
	"authenticate":      "auth",
	"use_apop":          "auth: apop",
	"use_xoauth2":       "token_command",
	"principal":         "kerberos: principal",
	"ssl_version":       "tls_min",
	"postconnect":       "postpoll",
	"received":          "received_header",
	"no-received":       "received_header",
	"envelope":          "route: header",
	"localdomains":      "route: domains",
}

// foreignKeyHints says what to do about keys of other programs that an account does not
// have.
var foreignKeyHints = map[string]string{
	"fetchall": "leave it out: whatever is new is fetched",
	"uidl":     always, "only_new": always, "new-only": always,
	"sslcertck": verified, "tls_certcheck": verified, "verify-certificates": verified, "tls_verify": verified, "insecure": verified,
	"skip": unpolled, "disabled": unpolled,
	"idfile": remembers, "uidls_file": remembers, "cache": remembers,
	"rewrite": unaltered, "mimedecode": unaltered, "stripcr": unaltered,
	"fetchlimit": takesAll, "max_messages_per_session": takesAll,
	"smtphost": toSink, "mda": toSink, "maildir": toSink, "mbox": toSink, "smtp": toSink, "lmtp": toSink, "imap": toSink, "folder": toSink,
}

const (
	unaltered = "leave it out: messages are not altered"
	takesAll  = "leave it out: a poll takes all, and holds up no other account"
	always    = "leave it out: it is always so"
	verified  = "leave it out: certificates are verified; for one that the system does not trust there are tls_ca and tls_fingerprint"
	remembers = "leave it out: mailhaul state adopt --from reads that file"
	unpolled  = "to leave the account alone, comment it out"
	toSink    = "give a sink a name, below sinks, and deliver to it"
)

// didYouMean returns the one of names that was probably meant by got, "" if there is none,
// and a hint that says so, or that lists the names if they are few.
func didYouMean(got string, names []string) (meant, hint string) {
	if other := foreignKeys[got]; other != "" {
		key, _, _ := strings.Cut(other, ":")
		if slices.Contains(names, key) {
			return key, "did you mean " + quote(other) + "?"
		}
	}
	if hint = foreignKeyHints[got]; hint != "" && slices.Contains(names, "deliver") {
		return "", hint
	}
	closest, least := "", 1+max(1, len(got)/3)
	for _, name := range names {
		if d := distance(got, name); d < least {
			closest, least = name, d
		}
	}
	if closest != "" {
		return closest, "did you mean " + quote(closest) + "?"
	}
	return "", listHint(names)
}

// listHint returns a hint that lists names, "" if there are none or too many.
func listHint(names []string) string {
	if len(names) > 10 || len(names) == 0 {
		return ""
	}
	return "known: " + strings.Join(names, ", ")
}

// distance returns the number of letters that must be inserted, deleted, replaced or
// swapped with their neighbour to turn a into b (the optimal string alignment distance).
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	prev, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], prev[j-2]+1)
			}
		}
		prev, row, next = row, next, prev
	}
	return row[len(b)]
}
