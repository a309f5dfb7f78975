package envelope

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxAddress is the length of the longest valid address, in octets. The limits of RFC 5321
// §4.5.3.1 allow 254, but some list servers need a little more.
const maxAddress = 320

// address returns the first address of a field's value. For the null path "<>", it is empty
// and ok is true.
func address(value string) (addr string, ok bool) {
	addr, found := firstPath(value)
	if !found {
		return "", false
	}
	addr = strings.Trim(addr, " \t")
	if addr == "" {
		return "", true
	}
	if addr[0] == '@' {
		// RFC 5321 §4.1.2: a source route is accepted and ignored.
		_, addr, _ = strings.Cut(addr, ":")
	}
	return addr, ValidAddress(addr)
}

// firstPath returns what is between the first pair of angle brackets, or, in a value without
// them, the first word with an "@". Brackets in comments and quoted strings do not count.
func firstPath(value string) (string, bool) {
	var word strings.Builder
	var bare string
	endWord := func() {
		if bare == "" && strings.Contains(word.String(), "@") {
			bare = word.String()
		}
		word.Reset()
	}
	comment := 0
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\':
			i++
		case c == '(':
			comment++
			endWord()
		case comment > 0:
			if c == ')' {
				comment--
			}
		case c == '<':
			if path, _, ok := strings.Cut(value[i+1:], ">"); ok {
				return path, true
			}
			return "", false
		case c == '"':
			end := endQuoted(value, i)
			word.WriteString(value[i:end])
			i = end - 1
		case strings.IndexByte(" \t,;", c) >= 0:
			endWord()
		default:
			word.WriteByte(c)
		}
	}
	endWord()
	return bare, bare != ""
}

// endQuoted returns the index after the quoted string that begins at i. A quote that is never
// closed is a string of one character.
func endQuoted(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return j + 1
		}
	}
	return i + 1
}

// ValidAddress reports whether s is an addr-spec that can be written to a header, a From_ line
// or an SMTP command unchanged. Unlike RFC 5322, it allows no blanks, but dots anywhere, and
// UTF-8 (RFC 6532).
func ValidAddress(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && len(s) <= maxAddress && ValidLocal(s[:at]) && validDomain(s[at+1:])
}

// ValidLocal reports whether s is a local part, quoted or not, that can be written there. A
// quoted one must not contain blanks, quotes, backslashes and angle brackets.
func ValidLocal(s string) bool {
	if n := len(s); n > 2 && s[0] == '"' && s[n-1] == '"' {
		return validWord(s[1:n-1], `"\<>`)
	}
	return len(s) <= maxAddress && validWord(s, specials)
}

// specials are the characters that must not be in an unquoted local part (RFC 5322 §3.2.3).
const specials = `()<>[]:;@\,"`

// validDomain reports whether s is a domain name or an address literal.
func validDomain(s string) bool {
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		return validWord(s[1:n-1], `()<>[];@\,"`)
	}
	return validWord(s, "()<>[]:;@\\,\"!%/'`{}|=?*&^$#~+")
}

// ValidMailbox reports whether s is a ValidAddress that servers accept in MAIL (RFC 5321
// §4.1.2). Its domain must be the name of a host (RFC 1123 §2.1) or the literal of an IP
// address (RFC 5321 §4.1.3). Underscores and a last dot are allowed in a name, since they
// occur. An address that begins with "-" is not valid, because Postfix refuses it: a program
// might take it for an option.
func ValidMailbox(s string) bool {
	if !ValidAddress(s) || strings.HasPrefix(strings.TrimPrefix(s, `"`), "-") {
		return false
	}
	domain := s[strings.LastIndexByte(s, '@')+1:]
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		return validLiteral(strings.TrimSuffix(literal, "]"))
	}
	domain = strings.TrimSuffix(domain, ".")
	for label := range strings.SplitSeq(domain, ".") {
		if n := asciiLen(label); n < 1 || n > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
	}
	return asciiLen(domain) <= 255 && strings.Trim(domain, "0123456789.") != ""
}

// asciiLen returns the length of a domain name, or of one of its labels, in the form of the
// DNS (RFC 5890 §2.3.2.1).
func asciiLen(name string) int {
	ascii, err := idna.Punycode.ToASCII(name)
	if err != nil {
		return len(name) // the server decides whether it is valid
	}
	return len(ascii)
}

// validLiteral reports whether s is an IP address in the form of RFC 5321 §4.1.3, without the
// brackets.
func validLiteral(s string) bool {
	const v6 = "IPv6:"
	tagged := len(s) > len(v6) && strings.EqualFold(s[:len(v6)], v6)
	if tagged {
		s = s[len(v6):]
	}
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6() == tagged && ip.Zone() == ""
}

// validWord reports whether s is not empty, is UTF-8, and contains only printable characters
// without blanks and the special ones.
func validWord(s, special string) bool {
	for _, r := range s {
		if r == ' ' || !unicode.IsPrint(r) || strings.ContainsRune(special, r) {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}
