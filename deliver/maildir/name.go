package maildir

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// newName returns a file name that nothing else has, with a mark that tells
// whose it is. Its form is that of the Maildir specification: seconds, a
// delivery identifier, the host. M, P, Q and R are microseconds, process,
// count and random bits; A is the mark, of mailhaul alone.
func (s *Sink) newName(mark string) string {
	now := s.now()
	var random [4]byte
	rand.Read(random[:])
	name := make([]byte, 0, 80+len(s.host)) // one is made for each message
	name = strconv.AppendInt(name, now.Unix(), 10)
	name = strconv.AppendInt(append(name, ".M"...), int64(now.Nanosecond()/1000), 10)
	name = strconv.AppendInt(append(name, 'P'), int64(os.Getpid()), 10)
	name = strconv.AppendUint(append(name, 'Q'), s.names.Add(1), 10)
	name = hex.AppendEncode(append(name, 'R'), random[:])
	name = append(append(name, 'A'), mark...)
	return string(append(append(name, '.'), s.host...))
}

// namePattern matches the names that unique makes and catches the mark.
var namePattern = regexp.MustCompile(`^[0-9]+\.M[0-9]+P[0-9]+Q[0-9]+R[0-9a-f]{8}A([0-9a-f]{12})\.`)

// accountTag stands for an account in a file name. An account's own name may hold
// anything, and need not be readable by all who can list the folder.
func (s *Sink) accountTag(account string) string {
	sum := sha256.Sum256([]byte(s.owner + "\x00" + account))
	return hex.EncodeToString(sum[:6])
}

// probeTag marks files without content, of no account.
const probeTag = "000000000000"

// escapeHost makes a host name fit for a file name. The specification wants /
// and : replaced so; a comma would start the sizes.
func escapeHost(host string) string {
	host = strings.NewReplacer("/", `\057`, ":", `\072`, ",", `\054`).Replace(host)
	host = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, host)
	return host[:min(len(host), 100)]
}

// finalName returns the name under which a message of so many octets is
// delivered. Readers trust these sizes: S is the file's, W the one with every
// line end a CRLF, as IMAP's RFC822.SIZE is (RFC 9051 §2.3.4).
func finalName(name string, size, wireSize int64) string {
	return name + ",S=" + strconv.FormatInt(size, 10) + ",W=" + strconv.FormatInt(wireSize, 10)
}

// tmpName returns the name in tmp/ of a message with a given name in new/.
func tmpName(final string) string {
	name, _, _ := strings.Cut(final, ",S=")
	return name
}
