package statefile

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// Writer writes a file, account by account.
type Writer struct {
	buf *bufio.Writer
	enc *json.Encoder
	end end
	err error
}

// NewWriter begins a file.
func NewWriter(w io.Writer) *Writer {
	buf := bufio.NewWriter(w)
	f := &Writer{buf: buf, enc: json.NewEncoder(oneline.JSON(buf))}
	f.enc.SetEscapeHTML(false)
	f.line(line{Mailhaul: "state", Version: version})
	return f
}

// Write adds what is remembered of an account.
func (f *Writer) Write(m state.Memory) error {
	f.line(line{Account: &account{Name: text(m.Account), LastSuccess: when(m.LastSuccess), Maildrop: text(m.Maildrop)}})
	for _, msg := range m.Messages {
		f.line(line{Message: messageOf(msg)})
	}
	for _, p := range m.Polls {
		f.line(line{Poll: &poll{
			Started: when(p.Started), Ended: when(p.Ended), Result: p.Result, Error: text(p.Error), Hint: text(p.Hint),
			Fetched: p.Fetched, Deleted: p.Deleted, Listed: p.Listed, Octets: p.Bytes,
		}})
	}
	for _, d := range m.Days {
		f.line(line{Day: &day{
			Date: time.Unix(d.Day*86400, 0).UTC().Format(time.DateOnly), Polls: d.Polls, Failed: d.Failed, Fetched: d.Fetched, Octets: d.Bytes,
		}})
	}
	f.end.Accounts++
	f.end.Messages += len(m.Messages)
	f.end.Polls += len(m.Polls)
	f.end.Days += len(m.Days)
	return f.err
}

// Close ends the file. It does not close the writer below.
func (f *Writer) Close() error {
	f.line(line{End: &f.end})
	if f.err != nil {
		return f.err
	}
	return f.buf.Flush()
}

func (f *Writer) line(l line) {
	if f.err == nil {
		f.err = f.enc.Encode(l)
	}
}

func messageOf(msg state.Message) *message {
	m := &message{
		UID: text(msg.UID), Phase: msg.Phase.String(), Octets: msg.Size, Header: hexOf(msg.Header), Content: hexOf(msg.Content),
		Seen: when(msg.Seen), Landed: when(msg.Landed), Deleted: when(msg.Deleted), Missing: when(msg.Missing),
		Tries: msg.Tries, NextTry: when(msg.NextTry), Reason: text(msg.Reason),
	}
	for _, d := range msg.Deliveries {
		m.Deliveries = append(m.Deliveries, delivery{
			Sink: text(d.Sink), Token: text(d.Token), Where: text(d.Where), Open: d.Open,
			Promised: when(d.Promised), Landed: when(d.Landed),
		})
	}
	return m
}

func hexOf(s state.Sum) string {
	if s.IsZero() {
		return ""
	}
	return hex.EncodeToString(s[:])
}
