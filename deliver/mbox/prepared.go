package mbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/mailhaul/mailhaul/deliver/durable"
)

// A spool file contains a batch:
//
//   - the offset of the index, in 16 hexadecimal digits,
//   - two newlines, of which as many are used as are missing at the end of the mbox,
//   - the messages as they will be in the mbox,
//   - the index, in JSON,
//   - a mark for each message, of one octet.
//
// Prepare writes the index and its offset, and then renames the file. Only a renamed
// file is read, so that no message can be mistaken for an index.
//
// The marks come last because only they change later: a power cut may take what follows
// the first octet that changes. A missing mark is the same as markOpen.
const (
	indexOffsetLen = 16
	leadNewlines   = "\n\n"
	messagesOffset = indexOffsetLen + int64(len(leadNewlines))
	maxIndexSize   = 1 << 20
)

// The marks of a message.
const (
	markOpen   = '-' // not known; so is every other octet
	markLanded = 'L' // it is in the mbox, or was until its owner moved it
	markGone   = 'X' // Settle has returned Unknown: it will be fetched again
)

// index says which parts of a spool file belong where in the mbox.
type index struct {
	Path  string // escaped
	Inode inode
	// Offset is the size of the mbox before the batch. The octet at Start of the
	// spool file belongs there.
	Offset, Start int64
	// Ends are the offsets in the spool file of the end of each message. The first
	// message begins at Start, with the newlines that are missing in the mbox.
	Ends []int64
}

// span is the extent of one message: size octets from the offset spool in the
// spool file, which belong at the offset mbox in the mbox.
type span struct{ spool, mbox, size int64 }

func (x *index) spanOf(n int) span {
	start := x.Start
	if n > 0 {
		start = x.Ends[n-1]
	}
	return span{spool: start, mbox: x.Offset + start - x.Start, size: x.Ends[n] - start}
}

// textSpan is the extent of a message without the newlines before it.
func (x *index) textSpan(n int) span {
	sp := x.spanOf(n)
	if n == 0 {
		lead := messagesOffset - x.Start
		sp = span{spool: sp.spool + lead, mbox: sp.mbox + lead, size: sp.size - lead}
	}
	return sp
}

// batchSpan is the extent of the whole batch.
func (x *index) batchSpan() span {
	return span{spool: x.Start, mbox: x.Offset, size: x.Ends[len(x.Ends)-1] - x.Start}
}

// preparedFile is a spool file with an index.
type preparedFile struct {
	index
	file    durable.File
	name    string
	marks   []byte
	marksAt int64
}

// preparedSuffix returns the suffix in the names of the prepared spool files for an mbox.
func preparedSuffix(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "mbox-" + hex.EncodeToString(sum[:8])
}

// writeIndex writes the index after the messages of a spool file, and the offset of the
// index before them.
func writeIndex(file durable.File, x index) (*preparedFile, error) {
	b, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	end := x.Ends[len(x.Ends)-1]
	p := &preparedFile{
		index: x, file: file,
		marks:   bytes.Repeat([]byte{markOpen}, len(x.Ends)),
		marksAt: end + int64(len(b)),
	}
	if _, err := file.WriteAt(append(b, p.marks...), end); err != nil {
		return nil, err
	}
	_, err = file.WriteAt(fmt.Appendf(nil, "%0*x", indexOffsetLen, end), 0)
	return p, err
}

// openPrepared opens a spool file that has an index. If there is no file of that name,
// or its index is invalid, the error is fs.ErrNotExist to errors.Is.
func (s *Sink) openPrepared(name string) (*preparedFile, error) {
	file, err := s.spool.Open(name)
	if err != nil {
		return nil, err
	}
	p, err := readIndex(file)
	if err != nil {
		_ = file.Close()
		return nil, s.spool.Error("read a batch", err)
	}
	p.name = name
	return p, nil
}

func readIndex(file durable.File) (*preparedFile, error) {
	broken := fmt.Errorf("%w: a broken index", fs.ErrNotExist)
	head := make([]byte, indexOffsetLen)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	end, err := strconv.ParseInt(string(head[:n]), 16, 64)
	if err != nil || end < messagesOffset {
		return nil, broken
	}
	b, err := io.ReadAll(io.NewSectionReader(file, end, maxIndexSize))
	if err != nil {
		return nil, err
	}
	p := &preparedFile{file: file}
	d := json.NewDecoder(bytes.NewReader(b))
	if d.Decode(&p.index) != nil || !p.isValid() || p.Ends[len(p.Ends)-1] != end {
		return nil, broken
	}
	p.marks = bytes.Repeat([]byte{markOpen}, len(p.Ends))
	copy(p.marks, b[d.InputOffset():])
	p.marksAt = end + d.InputOffset()
	return p, nil
}

// isValid reports whether the offsets can be used.
func (x *index) isValid() bool {
	last := x.Start
	for _, end := range x.Ends {
		if end <= last {
			return false
		}
		last = end
	}
	return len(x.Ends) > 0 && x.Offset >= 0 && x.Start >= indexOffsetLen && x.Start <= messagesOffset
}

// saveMarks makes the marks durable.
func (p *preparedFile) saveMarks() error {
	if _, err := p.file.WriteAt(p.marks, p.marksAt); err != nil {
		return err
	}
	return p.file.Sync()
}
