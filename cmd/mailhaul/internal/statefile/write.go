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

// Writer writes a file, account by account. After an error its methods return that error.
type Writer struct {
	buf *bufio.Writer
	enc *json.Encoder
	end counts
	err error
}

// NewWriter begins a file on w.
func NewWriter(w io.Writer) *Writer {
	buf := bufio.NewWriter(w)
	f := &Writer{buf: buf, enc: json.NewEncoder(oneline.JSON(buf))}
	f.enc.SetEscapeHTML(false)
	f.encode(line{Mailhaul: "state", Version: version})
	return f
}

// Write adds an account.
func (f *Writer) Write(m state.Export) error {
	f.encode(line{Account: &account{Name: anyString(m.Account), LastSuccess: timeOrNil(m.LastSuccess), Maildrop: anyString(m.Maildrop)}})
	for _, msg := range m.Messages {
		f.encode(line{Message: messageOf(msg)})
	}
	for _, p := range m.Polls {
		f.encode(line{Poll: &poll{
			Started: timeOrNil(p.Started), Ended: timeOrNil(p.Ended), Result: p.Result, Error: anyString(p.Error), Hint: anyString(p.Hint),
			Fetched: p.Fetched, Deleted: p.Deleted, Listed: p.Listed, Octets: p.Octets,
		}})
	}
	for _, d := range m.Days {
		f.encode(line{Day: &day{
			Date: time.Unix(d.Day*86400, 0).UTC().Format(time.DateOnly), Polls: d.Polls, Failed: d.Failed, Fetched: d.Fetched, Octets: d.Octets,
		}})
	}
	f.end.Accounts++
	f.end.Messages += len(m.Messages)
	f.end.Polls += len(m.Polls)
	f.end.Days += len(m.Days)
	return f.err
}

// Close ends the file. It does not close the underlying writer.
func (f *Writer) Close() error {
	f.encode(line{End: &f.end})
	if f.err != nil {
		return f.err
	}
	return f.buf.Flush()
}

func (f *Writer) encode(l line) {
	if f.err == nil {
		f.err = f.enc.Encode(l)
	}
}

func messageOf(msg state.Message) *message {
	m := &message{
		UID: anyString(msg.UID), Phase: msg.Phase.String(), Octets: msg.Size, Header: encodeSum(msg.Header), Content: encodeSum(msg.Content),
		Seen: timeOrNil(msg.Seen), Landed: timeOrNil(msg.Landed), Deleted: timeOrNil(msg.Deleted), Missing: timeOrNil(msg.Missing),
		Tries: msg.Tries, NextTry: timeOrNil(msg.NextTry), Reason: anyString(msg.Reason),
	}
	for _, d := range msg.Deliveries {
		m.Deliveries = append(m.Deliveries, delivery{
			Sink: anyString(d.Sink), Token: anyString(d.Token), Where: anyString(d.Where), Open: d.Open,
			Promised: timeOrNil(d.Promised), Landed: timeOrNil(d.Landed),
		})
	}
	return m
}

func encodeSum(s state.Sum) string {
	if s.IsZero() {
		return ""
	}
	return hex.EncodeToString(s[:])
}
