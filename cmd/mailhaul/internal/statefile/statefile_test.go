package statefile_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/statefile"
	"github.com/mailhaul/mailhaul/fetch/state"
)

const golden = "testdata/all.jsonl"

// all has every field, and strings that are not UTF-8.
var all = []state.Export{
	{
		Account: "work", LastSuccess: 1_700_000_000, Maildrop: "me at pop.example.org",
		Messages: []state.Message{
			{Row: state.Row{UID: "\x00\x01\xff", Phase: state.Refused, Size: 7, Header: state.Sum{1}, Seen: 1_600_000_000, Tries: 2, NextTry: 1_800_000_000, Reason: "no \"room\" <here>"}},
			{
				Row: state.Row{UID: "a", Phase: state.Deleted, Size: 1 << 40, Header: state.Sum{2}, Content: state.Sum{3}, Landed: 1, Deleted: 2, Missing: 3},
				Deliveries: []state.Delivery{
					{Sink: "home", Token: "t", Where: "/mail/\xe9/new/1", Promised: 1, Landed: 2},
					{Sink: "archive", Promised: 1, Landed: 3},
				},
			},
			{Row: state.Row{UID: "b\ufffd", Phase: state.Promised}, Deliveries: []state.Delivery{{Sink: "home", Open: true}, {Sink: "archive"}}},
			{Row: state.Row{UID: "c", Phase: state.Landed, Landed: 5}},
			{Row: state.Row{UID: "d", Phase: state.Adopted}},
		},
		Polls: []state.Poll{
			{Started: 1, Ended: 2, Result: "fine", Fetched: 3, Deleted: 4, Listed: 5, Octets: 6},
			{Started: 7, Ended: 8, Result: "retry", Error: "it said \xff", Hint: "wait"},
		},
		Days: []state.Day{{Day: 20784, Polls: 288, Failed: 1, Fetched: 3, Octets: 1 << 40}, {Day: 20785, Polls: 2}},
	},
	{Account: "empty"},
}

// write returns the file with some accounts.
func write(tb testing.TB, ms []state.Export) string {
	tb.Helper()
	var b strings.Builder
	w := statefile.NewWriter(&b)
	for _, m := range ms {
		if err := w.Write(m); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), write(t, all)); diff != "" {
		t.Errorf("the format has changed, and users have files in it (-want +got):\n%s", diff)
	}
	got, err := statefile.Read(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// A file of version 1 is read as it is.
func TestReadVersion1(t *testing.T) {
	text := strings.Replace(write(t, all), `"version":3}`, `"version":1}`, 1)
	got, err := statefile.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	const first, account = `{"mailhaul":"state","version":3}`, `{"account":{"name":"work"}}`
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "empty"},
		{"something else", "From me\n", "line 1: this was not written by"},
		{"other JSON", `{"name":"x"}`, "line 1: this was not written by"},
		{"a later version", `{"mailhaul":"state","version":4,"new":true}`, "newer mailhaul (version 4, this one reads up to 3)"},
		{"a cut", first + "\n" + account, "cut short"},
		{"a cut within a line", first + "\n" + account[:9], "line 2: unexpected"},
		{"lines that are missing", first + "\n" + account + "\n" + `{"end":{"accounts":2,"messages":0,"polls":0}}`, "line 3: the file holds 1 of 2 accounts, 0 of 0 messages"},
		{"lines after the end", first + "\n" + `{"end":{"accounts":0,"messages":0,"polls":0}}` + "\n" + account, "line 3: something follows"},
		{"two values in a line", first + "\n" + account + account, "line 2: "},
		{"an unknown part", first + "\n" + `{"sink":{}}`, `line 2: json: unknown field "sink"`},
		{"an empty part", first + "\n" + account + "\n{}", "line 3: this was not written by"},
		{"no account", first + "\n" + `{"poll":{"result":"fine"}}`, "line 2: no account"},
		{"an account twice", first + "\n" + account + "\n" + account, `line 3: account "work" appears twice`},
		{"a line without end", first + "\n" + strings.Repeat("x", 2<<20), "this was not written by"},
	} {
		t.Run(test.name, func(t *testing.T) { refuses(t, test.text, test.want) })
	}
	for _, test := range []struct{ name, text, want string }{
		{"phase", `"phase":"kept"`, `the phase "kept" is not known`},
		{"sum", `"phase":"adopted","header":"00"`, "32 hexadecimal digits"},
		{"time", `"phase":"adopted","seen":"yesterday"`, "not a time"},
		{"time before 1970", `"phase":"adopted","seen":"1960-01-01T00:00:00Z"`, "not a time"},
		{"landed at no time", `"phase":"landed"`, "since when is missing"},
		{"deleted at no time", `"phase":"deleted"`, "since when is missing"},
		{"landed, but not in a sink", `"phase":"landed","landed":"2026-01-01T00:00:00Z","deliveries":[{"sink":"home"}]`, `not in the sink "home"`},
		{"landed and open", `"phase":"landed","landed":"2026-01-01T00:00:00Z","deliveries":[{"sink":"home","open":true}]`, `not in the sink "home"`},
		{"a sink twice", `"phase":"promised","deliveries":[{"sink":"home"},{"sink":"home"}]`, "appears twice"},
		{"adopted and delivered", `"phase":"adopted","deliveries":[{"sink":"home"}]`, "adopted, and delivered"},
		{"size", `"phase":"adopted","octets":-1`, "negative"},
		{"unknown key", `"phase":"adopted","Landed_at":1`, "unknown field"},
		{"odd text", `"phase":"refused","reason":{"hex":"00"}`, "neither text nor"},
		{"odd base64", `"phase":"refused","reason":{"base64":"*"}`, "illegal base64"},
	} {
		t.Run("message: "+test.name, func(t *testing.T) {
			refuses(t, first+"\n"+account+"\n"+`{"message":{"uid":"u",`+test.text+`}}`, "line 3: ")
			refuses(t, first+"\n"+account+"\n"+`{"message":{"uid":"u",`+test.text+`}}`, test.want)
		})
	}
	for _, test := range []struct{ name, text, want string }{
		{"no date", `{"day":{"date":"today","polls":1}}`, "not a day"},
		{"a number", `{"day":{"date":"2026-11-28","polls":-1}}`, "negative"},
		{"twice", `{"day":{"date":"2026-11-28","polls":1}}` + "\n" + `{"day":{"date":"2026-11-28","polls":1}}`, "line 4: the day 2026-11-28 stands"},
	} {
		t.Run("day: "+test.name, func(t *testing.T) { refuses(t, first+"\n"+account+"\n"+test.text, test.want) })
	}
	twice := `{"message":{"uid":"u","phase":"adopted"}}` + "\n"
	refuses(t, first+"\n"+account+"\n"+twice+twice, `line 4: message "u" appears twice`)
}

// refuses checks that Read fails on text, with an error that contains want.
func refuses(t *testing.T, text, want string) {
	t.Helper()
	got, err := statefile.Read(strings.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%.80q gave %v, want an error with %q", text, err, want)
	}
	if got != nil {
		t.Errorf("%.80q gave an error and %v", text, got)
	}
}

func TestReadFails(t *testing.T) {
	broken := errors.New("the disk is on fire")
	if _, err := statefile.Read(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

var errFull = errors.New("no space left")

// fullDisk is a writer that always fails.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteFails(t *testing.T) {
	w := statefile.NewWriter(fullDisk{})
	w.Write(all[0])
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("error %v, want %v", err, errFull)
	}
}

// What Read returns can be written, and read back unchanged.
func FuzzRead(f *testing.F) {
	text, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		was, err := statefile.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		is, err := statefile.Read(strings.NewReader(write(t, was)))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(was, is, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("export (-was +is):\n%s", diff)
		}
	})
}
