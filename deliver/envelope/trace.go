package envelope

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
)

// Hop describes the way of a message from the POP3 server to this machine. Its strings may
// contain anything: what is not valid in a header is replaced or left out.
type Hop struct {
	// Server is the name or IP address of the POP3 server. If it is empty, there is no
	// Received field.
	Server string
	// Host is the name of this machine.
	Host string
	// TLS reports whether the connection was encrypted.
	TLS bool
	// Account is the account's name in the configuration.
	Account string
	// For is the recipient, for the "for" clause of Received. It is left out unless it
	// is a valid address.
	For string
	// Time is when the message was retrieved.
	Time time.Time

	// DeliveredTo adds a Delivered-To field, unless it is empty.
	DeliveredTo string
	// ReturnPath adds a Return-Path field with Sender.
	ReturnPath bool
	// Sender is the envelope sender. If it is empty or invalid, Return-Path is "<>".
	Sender string
}

// Trace returns the fields to put before a message: Return-Path, which RFC 5321 §4.4 wants at
// the beginning, Delivered-To and Received, as far as h asks for them. Lines end in CRLF.
// Received is folded into lines of at most 78 columns, if its words are not too long.
//
// RFC 5321 §4.4 wants a registered protocol after "with", but none is registered for POP3.
// Other fetchers write POP3, too. The S for TLS follows RFC 3848.
func Trace(h Hop) []byte {
	var b bytes.Buffer
	if h.ReturnPath {
		sender := ""
		if ValidAddress(h.Sender) {
			sender = h.Sender
		}
		b.WriteString("Return-Path: <" + sender + ">\r\n")
	}
	if to := strings.TrimSpace(printable(h.DeliveredTo)); to != "" {
		b.WriteString("Delivered-To: " + to + "\r\n")
	}

	if h.Server == "" {
		return b.Bytes()
	}
	protocol := "POP3"
	if h.TLS {
		protocol = "POP3S"
	}
	words := []string{"from " + domain(h.Server), "by " + domain(h.Host), "with " + protocol}
	words = append(words, strings.Fields("(mailhaul account "+comment(h.Account)+")")...)
	if ValidAddress(h.For) {
		words = append(words, "for <"+h.For+">")
	}
	words[len(words)-1] += ";"
	words = append(words, h.Time.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	fold(&b, "Received:", words)
	return b.Bytes()
}

// fold writes a field, with a line break before each word that would not fit into the line.
func fold(b *bytes.Buffer, name string, words []string) {
	const width = 78 // RFC 5322 §2.1.1
	b.WriteString(name)
	column := len(name)
	for _, w := range words {
		sep := " "
		// The limit counts octets, and a tab is one.
		if column+len(sep)+len(w) > width && column > len(name) {
			sep = "\r\n\t"
			column = 0
		}
		b.WriteString(sep)
		b.WriteString(w)
		column += 1 + len(w)
	}
	b.WriteString("\r\n")
}

// domain returns a host in the form of RFC 5321 §4.1.3: a name unchanged, and an IP address in
// brackets. It returns "unknown" for anything else.
func domain(host string) string {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		ip = ip.Unmap().WithZone("")
		if ip.Is4() {
			return "[" + ip.String() + "]"
		}
		return "[IPv6:" + ip.String() + "]"
	}
	if len(host) > 255 || !validDomain(host) {
		return "unknown"
	}
	return host
}

// comment returns s in a form that is valid in a comment (RFC 5322 §3.2.2).
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`()\`, r) {
			return '?'
		}
		return r
	}, printable(s))
}

// printable replaces all characters that are not printable ASCII, such as line ends, and cuts
// s to a length that fits into a line (RFC 5322 §2.1.1).
func printable(s string) string {
	const limit = 512
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), limit)])
}
