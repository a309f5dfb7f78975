package statefile

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// maxLine bounds a line, in bytes. Lines that mailhaul writes are far shorter.
const maxLine = 1 << 20

// Read reads a whole file, and checks that what it says of each message is consistent. An
// error names the line.
func Read(r io.Reader) ([]state.Export, error) {
	in := reader{seen: map[string]bool{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if err := in.readLine(lines.Bytes()); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errNotOurs
	case err != nil:
		return nil, err
	case !in.begun:
		return nil, errors.New("the file is empty")
	case !in.ended:
		return nil, errors.New("the file was cut short: its last line is missing")
	}
	return in.all, nil
}

var errNotOurs = errors.New("this was not written by mailhaul state export")

// reader collects the accounts of a file, line by line.
type reader struct {
	all          []state.Export
	end          counts
	begun, ended bool
	seen         map[string]bool // the UIDs of the current account
}

func (r *reader) readLine(text []byte) error {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(&l)
	if err == nil && dec.More() {
		err = errNotOurs
	}
	switch {
	case !r.begun:
		r.begun = true
		return cmp.Or(checkHeader(text), err)
	case err != nil:
		return err
	case r.ended:
		return errors.New("something follows the end")
	case l.End != nil:
		r.ended = true
		if *l.End != r.end {
			return fmt.Errorf("the file holds %d of %d accounts, %d of %d messages, %d of %d polls and %d of %d days",
				r.end.Accounts, l.End.Accounts, r.end.Messages, l.End.Messages, r.end.Polls, l.End.Polls, r.end.Days, l.End.Days)
		}
		return nil
	case l.Account != nil:
		return r.addAccount(*l.Account)
	case len(r.all) == 0:
		return errors.New("no account comes before it")
	case l.Message != nil:
		return r.addMessage(*l.Message)
	case l.Day != nil:
		return r.addDay(*l.Day)
	case l.Poll != nil:
		r.addPoll(*l.Poll)
		return nil
	}
	return errNotOurs
}

// checkHeader checks the fields of the first line that all versions have.
func checkHeader(text []byte) error {
	var header struct {
		Mailhaul string `json:"mailhaul"`
		Version  int    `json:"version"`
	}
	if json.Unmarshal(text, &header) != nil || header.Mailhaul != "state" || header.Version < 1 {
		return errNotOurs
	}
	if header.Version > version {
		return fmt.Errorf("written by a newer mailhaul (version %d, this one reads up to %d)", header.Version, version)
	}
	return nil
}

// current returns the account that the next lines belong to.
func (r *reader) current() *state.Export { return &r.all[len(r.all)-1] }

func (r *reader) addAccount(a account) error {
	for _, m := range r.all {
		if m.Account == string(a.Name) {
			return fmt.Errorf("account %q appears twice", a.Name)
		}
	}
	r.end.Accounts++
	r.all = append(r.all, state.Export{Account: string(a.Name), LastSuccess: a.LastSuccess.unix(), Maildrop: string(a.Maildrop)})
	clear(r.seen)
	return nil
}

func (r *reader) addMessage(m message) error {
	msg := state.Message{Row: state.Row{
		UID: string(m.UID), Size: m.Octets, Seen: m.Seen.unix(), Landed: m.Landed.unix(), Deleted: m.Deleted.unix(),
		Missing: m.Missing.unix(), Tries: m.Tries, NextTry: m.NextTry.unix(), Reason: string(m.Reason),
	}}
	for _, d := range m.Deliveries {
		msg.Deliveries = append(msg.Deliveries, state.Delivery{
			Sink: string(d.Sink), Token: string(d.Token), Where: string(d.Where), Open: d.Open,
			Promised: d.Promised.unix(), Landed: d.Landed.unix(),
		})
	}
	var known bool
	if msg.Phase, known = phases[m.Phase]; !known {
		return fmt.Errorf("message %q: the phase %q is not known", m.UID, m.Phase)
	}
	if err := errors.Join(decodeSum(&msg.Header, m.Header), decodeSum(&msg.Content, m.Content), validate(msg)); err != nil {
		return fmt.Errorf("message %q: %w", m.UID, err)
	}
	if r.seen[msg.UID] {
		return fmt.Errorf("message %q appears twice", m.UID)
	}
	r.seen[msg.UID] = true
	r.end.Messages++
	r.current().Messages = append(r.current().Messages, msg)
	return nil
}

var phases = map[string]state.Phase{}

func init() {
	for _, p := range []state.Phase{state.Promised, state.Landed, state.Deleted, state.Refused, state.Adopted} {
		phases[p.String()] = p
	}
}

// validate rejects a message whose row and deliveries contradict each other: a wrong row
// could get mail deleted from the server that has not landed.
func validate(m state.Message) error {
	sinks := map[string]bool{}
	for _, d := range m.Deliveries {
		switch {
		case sinks[d.Sink]:
			return fmt.Errorf("the sink %q appears twice", d.Sink)
		case d.Open && d.Landed != 0:
			return fmt.Errorf("it is on its way to the sink %q and has landed there", d.Sink)
		case d.Landed == 0 && m.Phase == state.Landed:
			return fmt.Errorf("it has landed, but not in the sink %q", d.Sink)
		}
		sinks[d.Sink] = true
	}
	switch {
	case m.Phase == state.Landed && m.Landed == 0, m.Phase == state.Deleted && m.Deleted == 0:
		return fmt.Errorf("it is %v, and since when is missing", m.Phase)
	case m.Phase == state.Adopted && len(m.Deliveries) > 0:
		return errors.New("it was adopted, and delivered")
	case m.Size < 0, m.Tries < 0:
		return errors.New("a number is negative")
	}
	return nil
}

func (r *reader) addPoll(p poll) {
	r.end.Polls++
	r.current().Polls = append(r.current().Polls, state.Poll{
		Started: p.Started.unix(), Ended: p.Ended.unix(), Result: p.Result, Error: string(p.Error), Hint: string(p.Hint),
		Fetched: p.Fetched, Deleted: p.Deleted, Listed: p.Listed, Octets: p.Octets,
	})
}

func (r *reader) addDay(d day) error {
	date, err := time.Parse(time.DateOnly, d.Date)
	if err != nil {
		return fmt.Errorf("%q is not a day", d.Date)
	}
	n := state.DayOf(date)
	if days := r.current().Days; len(days) > 0 && days[len(days)-1].Day >= n {
		return fmt.Errorf("the day %s stands behind a later one, or twice", d.Date)
	}
	if d.Polls < 0 || d.Failed < 0 || d.Fetched < 0 || d.Octets < 0 {
		return errors.New("a number is negative")
	}
	r.end.Days++
	r.current().Days = append(r.current().Days, state.Day{Day: n, Polls: d.Polls, Failed: d.Failed, Fetched: d.Fetched, Octets: d.Octets})
	return nil
}

func decodeSum(into *state.Sum, s string) error {
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(into) {
		return fmt.Errorf("a sum must have %d hexadecimal digits", 2*len(into))
	}
	copy(into[:], b)
	return nil
}
