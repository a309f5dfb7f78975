package envelope

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
)

// Hop describes the step from the POP3 server to this machine. Its strings
// may hold anything: what has no place in a header is left out.
type Hop struct {
	// Server is the host name or address that was polled, Host the name of
	// this machine. Without Server there is no Received field.
	Server, Host string
	// TLS reports whether the connection was encrypted.
	TLS bool
	// Account is the account's name in the configuration.
	Account string
	// For is the mailbox that the message was fetched for. It is named only
	// if it is an address.
	For string
	// Time is when the message was retrieved.
	Time time.Time

	// DeliveredTo adds a Delivered-To field, unless it is empty.
	DeliveredTo string
	// ReturnPath adds a Return-Path field with Sender, where an empty sender
	// is the null path "<>".
	ReturnPath bool
	Sender     string
}

// Trace returns the header fields to put before a message: Return-Path,
// Delivered-To and Received, as far as they are wanted. Lines end in CRLF and are
// folded below 78 columns where they can be. RFC 5321 §4.4 has Return-Path
// lead the message.
//
// RFC 5321 §4.4 wants of "with" a registered protocol name; none is
// registered for POP3. POP3 is what other fetchers write, and the S for TLS
// follows RFC 3848.
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

// fold writes a field, breaking the line before words that would not fit.
func fold(b *bytes.Buffer, name string, words []string) {
	const width = 78 // RFC 5322 §2.1.1
	b.WriteString(name)
	column := len(name)
	for _, w := range words {
		sep := " "
		// A tab is one octet, and that is what the limit counts.
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

// domain writes a host as RFC 5321 §4.1.3 has it: an address in brackets, a
// name as it is. What is neither becomes "unknown".
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

// comment makes s fit between parentheses (RFC 5322 §3.2.2).
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`()\`, r) {
			return '?'
		}
		return r
	}, printable(s))
}

// printable replaces what is not printable ASCII, line ends first of all, and
// keeps the rest to a length that a line can hold (RFC 5322 §2.1.1).
func printable(s string) string {
	const limit = 512
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), limit)])
}
