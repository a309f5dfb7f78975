package fetch

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/minio/highwayhash"
)

// contentKey is the same for all, so that what is remembered can go from one
// machine to another.
var contentKey = []byte("mailhaul: content of one message")

// newContentHash returns what all bytes of a message go through: a hash that takes a
// seventh of the time of a SHA-256 where it has the processor's help. It need not
// withstand forgers: who can write two messages of one sum has the second taken for
// the first, and both are his own. Those of others he does not know to the last byte
// before they are here, for the servers on the way stamp them.
var newContentHash = func() hash.Hash {
	h, err := highwayhash.New128(contentKey)
	if err != nil {
		panic(err) // the key has another length
	}
	return h
}

// newFormerHash returns what they went through before, in rows that may still be there.
var newFormerHash = sha256.New

// sums takes the sums of a message while it passes: of all its bytes, and of
// its header alone, which TOP can ask for without the body.
type sums struct {
	content  hash.Hash
	former   hash.Hash            // nil unless has is set
	isFormer func(state.Sum) bool // see expect
	header   headerSum
	octets   int64
}

func newSums() *sums {
	return &sums{content: newContentHash(), header: headerSum{hash: sha256.New()}}
}

// Write takes in the next bytes of the message. It never fails.
func (s *sums) Write(p []byte) (int, error) {
	s.octets += int64(len(p))
	s.content.Write(p)
	if s.former != nil {
		s.former.Write(p)
	}
	s.header.Write(p)
	return len(p), nil
}

func (s *sums) reset() {
	s.octets = 0
	s.content.Reset()
	s.former, s.isFormer = nil, nil
	s.header.reset()
}

// expectFormer says, before a message passes, that it may be one that there is a row of:
// has reports whether it is if that is the sum of its content.
func (s *sums) expectFormer(has func(state.Sum) bool) { s.former, s.isFormer = newFormerHash(), has }

// contentSum returns the sum of the content: the former one if a row has that.
func (s *sums) contentSum() state.Sum {
	if s.former != nil {
		if sum := truncate(s.former); s.isFormer(sum) {
			return sum
		}
	}
	return truncate(s.content)
}

// headerSum is the sum of a header's lines up to the empty line that ends it.
// Carriage returns do not count, nor do the fields that servers themselves
// add and change (X-UIDL, Status, X-Status): a message has the same sum
// whichever server holds it and whether TOP or RETR gave it.
//
// There is a sum only if something in the header is unlike that of any other
// message: a Message-ID, or a Received with the time and id of a hop. Programs
// write alarms that differ in nothing but their body.
type headerSum struct {
	hash   hash.Hash
	name   []byte // the start of the line, until its field is known
	fate   lineFate
	unique bool
	done   bool
}

// lineFate is what becomes of a header line.
type lineFate uint8

const (
	undecided lineFate = iota
	counted
	ignored
)

// longestName is the length of the longest name below, with its colon: as many
// bytes decide the fate of a line.
const longestName = len("message-id:")

var (
	ignoredFields = [][]byte{[]byte("x-uidl:"), []byte("status:"), []byte("x-status:")}
	uniqueFields  = [][]byte{[]byte("message-id:"), []byte("received:")}
)

func (h *headerSum) reset() {
	h.hash.Reset()
	*h = headerSum{hash: h.hash, name: h.name[:0]}
}

// Write takes in the next bytes of the message. It never fails.
func (h *headerSum) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !h.done {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		h.add(line)
		if ended {
			h.endLine()
		}
		p = rest
	}
	return n, nil
}

func (h *headerSum) add(part []byte) {
	for len(part) > 0 {
		run, rest, _ := bytes.Cut(part, []byte{'\r'})
		part = rest
		if h.fate == undecided {
			take := min(longestName-len(h.name), len(run))
			h.name = append(h.name, run[:take]...)
			run = run[take:]
			if len(h.name) == longestName {
				h.decideFate()
			}
		}
		if h.fate == counted {
			h.hash.Write(run)
		}
	}
}

// decideFate settles the fate of a line by its first bytes, and hands them on.
func (h *headerSum) decideFate() {
	is := func(field []byte) bool {
		return len(h.name) >= len(field) && bytes.EqualFold(h.name[:len(field)], field)
	}
	if slices.ContainsFunc(ignoredFields, is) {
		h.fate = ignored
		return
	}
	h.fate = counted
	h.unique = h.unique || slices.ContainsFunc(uniqueFields, is)
	h.hash.Write(h.name)
}

func (h *headerSum) endLine() {
	if h.fate == undecided {
		if len(h.name) == 0 {
			h.done = true
			return
		}
		h.decideFate()
	}
	if h.fate == counted {
		h.hash.Write([]byte{'\n'})
	}
	h.fate, h.name = undecided, h.name[:0]
}

// sum returns the header's sum once the message has passed; the zero Sum if
// the header does not tell the message from others.
func (h *headerSum) sum() state.Sum {
	if !h.done && (len(h.name) > 0 || h.fate != undecided) {
		h.endLine()
	}
	if !h.unique {
		return state.Sum{}
	}
	return truncate(h.hash)
}

func truncate(h hash.Hash) (s state.Sum) {
	copy(s[:], h.Sum(nil))
	return s
}
