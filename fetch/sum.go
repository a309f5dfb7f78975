package fetch

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"

	"github.com/mailhaul/mailhaul/fetch/state"
	"github.com/minio/highwayhash"
)

// contentKey is the key of content hashes. It is fixed, so that a state database can
// move to another machine.
var contentKey = []byte("mailhaul: content of one message")

// newContentHash returns the hash of a message's content, HighwayHash-128. With the
// processor's help it takes a seventh of the time of SHA-256. It need not resist
// forgery: an attacker with two messages of one sum can only have the second of his own
// taken for the first. He cannot match the mail of others, which he does not know to
// the last byte: the servers on the way stamp it.
var newContentHash = func() hash.Hash {
	h, err := highwayhash.New128(contentKey)
	if err != nil {
		panic(err) // the key has another length
	}
	return h
}

// newFormerHash returns the hash that earlier versions took of the content. Rows of
// theirs may still be there.
var newFormerHash = sha256.New

// sums takes the sums of a message while it passes: of all its bytes, and of its header
// alone, which TOP can ask for without the body.
type sums struct {
	content hash.Hash
	header  headerSum
	octets  int64

	former   hash.Hash            // nil without isFormer
	isFormer func(state.Sum) bool // set by expectFormer
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

// expectFormer takes the former sum of the next message, too. isFormer reports whether
// a row has a given sum.
func (s *sums) expectFormer(isFormer func(state.Sum) bool) {
	s.former, s.isFormer = newFormerHash(), isFormer
}

// contentSum returns the sum of the content: the former one if a row has it.
func (s *sums) contentSum() state.Sum {
	if s.former != nil {
		if sum := truncate(s.former); s.isFormer(sum) {
			return sum
		}
	}
	return truncate(s.content)
}

// headerSum takes the sum of a header: its lines up to the empty line that ends it. It
// skips carriage returns and the fields that servers add and change (X-UIDL, Status,
// X-Status), so that a message has the same sum on every server, by TOP and by RETR.
//
// Only a header with a field that is unique to its message has a sum: a Message-ID, or
// a Received with the time and id of a hop. Programs write alarms that differ only in
// their bodies.
type headerSum struct {
	hash   hash.Hash
	name   []byte // the start of the line while its kind is undecided
	kind   lineKind
	unique bool // there was a field of uniqueFields
	done   bool // the header has ended
}

// lineKind is whether a header line counts.
type lineKind uint8

const (
	undecided lineKind = iota
	counted
	ignored
)

// longestName is the length of the longest name below, and so of the start of a line
// that decides its kind.
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

// add takes in a part of one line.
func (h *headerSum) add(part []byte) {
	for len(part) > 0 {
		run, rest, _ := bytes.Cut(part, []byte{'\r'})
		part = rest
		if h.kind == undecided {
			n := min(longestName-len(h.name), len(run))
			h.name = append(h.name, run[:n]...)
			run = run[n:]
			if len(h.name) == longestName {
				h.decideKind()
			}
		}
		if h.kind == counted {
			h.hash.Write(run)
		}
	}
}

// decideKind decides by its start whether a line counts, and hashes the start if so.
func (h *headerSum) decideKind() {
	is := func(field []byte) bool {
		return len(h.name) >= len(field) && bytes.EqualFold(h.name[:len(field)], field)
	}
	if slices.ContainsFunc(ignoredFields, is) {
		h.kind = ignored
		return
	}
	h.kind = counted
	h.unique = h.unique || slices.ContainsFunc(uniqueFields, is)
	h.hash.Write(h.name)
}

func (h *headerSum) endLine() {
	if h.kind == undecided {
		if len(h.name) == 0 {
			h.done = true
			return
		}
		h.decideKind()
	}
	if h.kind == counted {
		h.hash.Write([]byte{'\n'})
	}
	h.kind, h.name = undecided, h.name[:0]
}

// sum returns the header's sum after the message has passed; the zero Sum if the header
// does not identify the message.
func (h *headerSum) sum() state.Sum {
	if !h.done && (len(h.name) > 0 || h.kind != undecided) {
		h.endLine()
	}
	if !h.unique {
		return state.Sum{}
	}
	return truncate(h.hash)
}

// truncate returns the first bytes of a hash's sum.
func truncate(h hash.Hash) (s state.Sum) {
	copy(s[:], h.Sum(nil))
	return s
}
