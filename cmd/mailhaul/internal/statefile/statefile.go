// Package statefile reads and writes exports of the state: Read returns the accounts in a
// file, a Writer writes them. The file has lines of JSON (RFC 8259), so that other programs
// can read it. The first line identifies it, and the last one counts its contents, so
// that a truncated file is detected:
//
//	{"mailhaul":"state","version":3}
//	{"account":{"name":"work","last_success":"2026-11-28T16:00:00Z","maildrop":"me at pop.example.org"}}
//	{"message":{"uid":"a1","phase":"landed","octets":512,…,"deliveries":[…]}}
//	{"poll":{"started":"2026-11-28T16:00:00Z",…}}
//	{"day":{"date":"2026-11-28","polls":288,…}}
//	{"end":{"accounts":1,"messages":1,"polls":1,"days":1}}
//
// Messages, polls and days belong to the account above them. Times are RFC 3339 in UTC,
// and absent for never; digests are in hexadecimal. Text is a string, or {"base64":"…"}
// (RFC 4648 §4) if it is not UTF-8, as some unique-ids and paths are not.
package statefile

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// version is the version of the format. Read rejects a higher one. In version 1 all
// digests of contents are SHA-256; version 3 added the maildrop of an account.
const version = 3

// line is one line of a file. All but the first have exactly one field.
type line struct {
	Mailhaul string   `json:"mailhaul,omitempty"`
	Version  int      `json:"version,omitempty"`
	Account  *account `json:"account,omitempty"`
	Message  *message `json:"message,omitempty"`
	Poll     *poll    `json:"poll,omitempty"`
	Day      *day     `json:"day,omitempty"`
	End      *counts  `json:"end,omitempty"`
}

type account struct {
	Name        anyString `json:"name"`
	LastSuccess *unixTime `json:"last_success,omitempty"`
	Maildrop    anyString `json:"maildrop,omitempty"`
}

type message struct {
	UID        anyString  `json:"uid"`
	Phase      string     `json:"phase"`
	Octets     int64      `json:"octets"`
	Header     string     `json:"header,omitempty"`
	Content    string     `json:"content,omitempty"`
	Seen       *unixTime  `json:"seen,omitempty"`
	Landed     *unixTime  `json:"landed,omitempty"`
	Deleted    *unixTime  `json:"deleted,omitempty"`
	Missing    *unixTime  `json:"missing,omitempty"`
	Tries      int        `json:"tries,omitempty"`
	NextTry    *unixTime  `json:"next_try,omitempty"`
	Reason     anyString  `json:"reason,omitzero"`
	Deliveries []delivery `json:"deliveries,omitempty"`
}

type delivery struct {
	Sink     anyString `json:"sink"`
	Token    anyString `json:"token,omitzero"`
	Where    anyString `json:"where,omitzero"`
	Open     bool      `json:"open,omitempty"`
	Promised *unixTime `json:"promised,omitempty"`
	Landed   *unixTime `json:"landed,omitempty"`
}

type poll struct {
	Started *unixTime `json:"started,omitempty"`
	Ended   *unixTime `json:"ended,omitempty"`
	Result  string    `json:"result"`
	Error   anyString `json:"error,omitzero"`
	Hint    anyString `json:"hint,omitzero"`
	Fetched int       `json:"fetched,omitempty"`
	Deleted int       `json:"deleted,omitempty"`
	Listed  int       `json:"listed,omitempty"`
	Octets  int64     `json:"octets,omitempty"`
}

type day struct {
	Date    string `json:"date"`
	Polls   int    `json:"polls"`
	Failed  int    `json:"failed,omitempty"`
	Fetched int    `json:"fetched,omitempty"`
	Octets  int64  `json:"octets,omitempty"`
}

type counts struct {
	Accounts int `json:"accounts"`
	Messages int `json:"messages"`
	Polls    int `json:"polls"`
	Days     int `json:"days"`
}

// anyString is a string that may not be UTF-8.
type anyString string

type base64Text struct {
	Base64 *string `json:"base64"`
}

func (s anyString) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(s)) {
		return json.Marshal(string(s))
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(s))
	return json.Marshal(base64Text{&encoded})
}

var errString = errors.New(`neither text nor {"base64":"…"}`)

func (s *anyString) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(s))
	}
	var e base64Text
	if json.Unmarshal(data, &e) != nil || e.Base64 == nil {
		return errString
	}
	bytes, err := base64.StdEncoding.Strict().DecodeString(*e.Base64)
	*s = anyString(bytes)
	return err
}

// unixTime is a time in Unix seconds.
type unixTime int64

// timeOrNil returns a time for a field with omitempty: nil if it is 0.
func timeOrNil(unix int64) *unixTime {
	if unix == 0 {
		return nil
	}
	return (*unixTime)(&unix)
}

func (u *unixTime) unix() int64 {
	if u == nil {
		return 0
	}
	return int64(*u)
}

func (u unixTime) MarshalJSON() ([]byte, error) { return json.Marshal(time.Unix(int64(u), 0).UTC()) }

var errTime = errors.New("not a time of RFC 3339 since 1970")

func (u *unixTime) UnmarshalJSON(data []byte) error {
	// time.Parse also accepts a comma before the fraction of a second.
	t, err := time.Parse(`"`+time.RFC3339+`"`, string(data))
	if err != nil || t.Unix() <= 0 || strings.Contains(string(data), ",") {
		return errTime
	}
	*u = unixTime(t.Unix())
	return nil
}
