package oldids_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oldids"
)

// What the programs themselves have written is understood.
func TestRead(t *testing.T) {
	uids := []string{"000000016b0b666f", "000000026b0b666f", "000000036b0b666f"}
	for program, want := range map[string]oldids.Maildrop{
		"fetchmail": {User: "rec", Host: "127.0.0.1", UIDs: uids},
		"getmail":   {UIDs: uids},
		"mpop":      {User: "rec", Host: "127.0.0.1", UIDs: uids},
		"fdm":       {UIDs: uids},
	} {
		f, err := os.Open(filepath.Join("testdata", program))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, drops, err := oldids.Read(f)
		if err != nil || got != program {
			t.Errorf("%s: read as one of %q: %v", program, got, err)
		}
		if diff := cmp.Diff([]oldids.Maildrop{want}, drops); diff != "" {
			t.Errorf("%s (-want +got):\n%s", program, diff)
		}
	}
}

func TestReadOdd(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []oldids.Maildrop
		err  string
	}{
		"nothing":       {},
		"blank lines":   {text: "\n \n\n"},
		"no such file":  {text: "set daemon 300\n", err: "line 1 is none that fetchmail, getmail, mpop or fdm writes"},
		"a binary file": {text: "SQLite format 3\x00\x10", err: "line 1 is none that getmail writes"},
		"a long line":   {text: "a@b " + strings.Repeat("x", 2<<20), err: "line 1: bufio.Scanner: token too long"},
		"fetchmail: an @ in each part": {
			text: "ada@pop.example.com 1\nbob@x.example.com@pop.example.com <a@b>\r\n ada@pop.example.com\t 2\n",
			want: []oldids.Maildrop{
				{User: "ada", Host: "pop.example.com", UIDs: []string{"1", "2"}},
				{User: "bob@x.example.com", Host: "pop.example.com", UIDs: []string{"<a@b>"}},
			},
		},
		"fetchmail: no uid":    {text: "ada@pop.example.com 1\nada@pop.example.com\n", err: "line 2 is none that fetchmail writes"},
		"getmail: blanks":      {text: "a b\x001\n", want: []oldids.Maildrop{{UIDs: []string{"a b"}}}},
		"getmail: no time":     {text: "a\x001\nb\n", err: "line 2 is none that getmail writes"},
		"mpop: two lists":      {text: " 1 h u\na\n 2 h v\nb\nc\n", want: []oldids.Maildrop{{"u", "h", []string{"a"}}, {"v", "h", []string{"b", "c"}}}},
		"mpop: cut":            {text: " 3 h u\na\n", err: "it ends where 2 more lines should follow"},
		"mpop: too few":        {text: " 2 h u\na\n 1 h v\nb\n", err: "line 3 is none that mpop writes"},
		"mpop: no number":      {text: "# mpop\n x h u\n", err: "line 2 is none that mpop writes"},
		"mpop: a uid too many": {text: " 1 h u\na\nb\n", err: "line 3 is none that mpop writes"},
		"fdm: blanks":          {text: "3 a b\n2 cd\n", want: []oldids.Maildrop{{UIDs: []string{"a b", "cd"}}}},
		"fdm: a wrong length":  {text: "2 ab\n3 cd\n", err: "line 2 is none that fdm writes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, drops, err := oldids.Read(strings.NewReader(test.text))
			if diff := cmp.Diff(test.want, drops); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := errorText(err); got != test.err {
				t.Errorf("error %q, want %q", got, test.err)
			}
		})
	}
}

func TestPick(t *testing.T) {
	ada := oldids.Maildrop{User: "ada", Host: "pop.example.com", UIDs: []string{"1"}}
	away := oldids.Maildrop{User: "ada", Host: "pop.example.net", UIDs: []string{"2"}}
	bob := oldids.Maildrop{User: "bob", Host: "pop.example.com", UIDs: []string{"3"}}
	unnamed := oldids.Maildrop{UIDs: []string{"4"}}
	whole := oldids.Maildrop{User: "ada@example.org", Host: "pop.example.com", UIDs: []string{"5"}}
	for name, test := range map[string]struct {
		user  string // empty is ada
		drops []oldids.Maildrop
		want  oldids.Maildrop
		err   string
	}{
		"by its local part":         {user: "ada@example.org", drops: []oldids.Maildrop{bob, ada}, want: ada},
		"by more than that":         {drops: []oldids.Maildrop{bob, whole}, want: whole},
		"by name, its local part's": {user: "ada@example.org", drops: []oldids.Maildrop{ada, whole}, want: whole},
		"of another domain": {
			user: "ada@example.net", drops: []oldids.Maildrop{whole},
			err: "it knows nothing of ada@example.net at POP.example.com, but of ada@example.org@pop.example.com",
		},
		"of two domains, perhaps": {
			user: "ada@example.net", drops: []oldids.Maildrop{ada, whole},
			err: "it knows nothing of ada@example.net at POP.example.com, but of ada@pop.example.com, ada@example.org@pop.example.com",
		},
		"of that local part, elsewhere": {
			user: "ada@example.org", drops: []oldids.Maildrop{away},
			err: "it knows nothing of ada@example.org at POP.example.com, but of ada@pop.example.net",
		},
		"by name":           {drops: []oldids.Maildrop{away, bob, ada}, want: ada},
		"by its user alone": {drops: []oldids.Maildrop{bob, away}, want: away},
		"without a name":    {drops: []oldids.Maildrop{unnamed}, want: unnamed},
		"of others":         {drops: []oldids.Maildrop{bob}, err: "it knows nothing of ada at POP.example.com, but of bob@pop.example.com"},
		"of nobody":         {err: "it names no message at all"},
		"of several": {
			drops: []oldids.Maildrop{away, {User: "ada", Host: "c"}},
			err:   "it knows nothing of ada at POP.example.com, but of ada@pop.example.net, ada@c",
		},
	} {
		if test.user == "" {
			test.user = "ada"
		}
		got, err := oldids.Pick(test.drops, test.user, "POP.example.com")
		if diff := cmp.Diff(test.want, got); diff != "" || errorText(err) != test.err {
			t.Errorf("%s: error %q, want %q; -want +got:\n%s", name, errorText(err), test.err, diff)
		}
	}
}

// Nothing that is read is empty, and no line is taken for two.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"ada@pop.example.com 1\n", "a\x001\n", "# x\n 1 h u\na\n", "2 ab\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		program, drops, err := oldids.Read(strings.NewReader(text))
		if err != nil && (program != "" || drops != nil) {
			t.Fatalf("%q and %v beside %v", program, drops, err)
		}
		n := 0
		for _, d := range drops {
			if len(d.UIDs) == 0 || slices.Contains(d.UIDs, "") {
				t.Fatalf("%q", d)
			}
			n += len(d.UIDs)
		}
		if n > strings.Count(text, "\n")+1 {
			t.Fatalf("%d unique-ids in %q", n, text)
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
