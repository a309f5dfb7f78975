package maildir

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// newName returns a unique file name of the form that the Maildir specification
// describes: the time in seconds, a delivery identifier, and the host. The identifier
// consists of M (microseconds), P (process id), Q (count), R (random bits) and, for
// mailhaul only, A followed by the tag.
func (s *Sink) newName(tag string) string {
	now := s.now()
	var random [4]byte
	rand.Read(random[:])
	name := make([]byte, 0, 80+len(s.host)) // without fmt: this runs for each message
	name = strconv.AppendInt(name, now.Unix(), 10)
	name = strconv.AppendInt(append(name, ".M"...), int64(now.Nanosecond()/1000), 10)
	name = strconv.AppendInt(append(name, 'P'), int64(os.Getpid()), 10)
	name = strconv.AppendUint(append(name, 'Q'), s.names.Add(1), 10)
	name = hex.AppendEncode(append(name, 'R'), random[:])
	name = append(append(name, 'A'), tag...)
	return string(append(append(name, '.'), s.host...))
}

// namePattern matches the results of newName. Its group is the tag.
var namePattern = regexp.MustCompile(`^[0-9]+\.M[0-9]+P[0-9]+Q[0-9]+R[0-9a-f]{8}A([0-9a-f]{12})\.`)

// accountTag returns a digest of an account and the sink's owner, to be the tag of file
// names. The account's name itself may contain any character, and everybody who can
// list the folder could read it.
func (s *Sink) accountTag(account string) string {
	sum := sha256.Sum256([]byte(s.owner + "\x00" + account))
	return hex.EncodeToString(sum[:6])
}

// probeTag is the tag of the empty files that checkWritable creates.
const probeTag = "000000000000"

// escapeHost makes a host name usable in a file name. The Maildir specification says how
// to replace / and :. A comma would begin the sizes of finalName.
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

// finalName returns the name in new/ of a message. Mail readers trust the sizes in it:
// S is the size of the file, and W the size with CRLF at the end of each line, which
// is IMAP's RFC822.SIZE (RFC 9051 §2.3.4).
func finalName(name string, size, wireSize int64) string {
	return name + ",S=" + strconv.FormatInt(size, 10) + ",W=" + strconv.FormatInt(wireSize, 10)
}

// tmpName returns the name in tmp/ of a message, given its name in new/.
func tmpName(final string) string {
	name, _, _ := strings.Cut(final, ",S=")
	return name
}

// nameTime returns the time at which newName made a name.
func nameTime(name string) time.Time {
	seconds, _, _ := strings.Cut(name, ".")
	n, _ := strconv.ParseInt(seconds, 10, 64)
	return time.Unix(n, 0)
}
