package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// A message is found by its unique-id, as it is or as it is shown, and by a beginning that
// no other one has.
func TestFindMessage(t *testing.T) {
	store, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	digest := func(first string) string { return "\x00" + first + strings.Repeat("\x11", 16-len(first)) }
	keys := []string{
		digest("\xab\xc0"), digest("\xab\xc0") + "+12", digest("\xab\xd0"), digest("\xff\xff"),
		"a", "ab", "abc", "b\xff\xff", "b\xff\xff1", "c d", "no-uid:", "\xff",
	}
	var adoptions []state.Adoption
	for _, k := range keys {
		adoptions = append(adoptions, state.Adoption{UID: k})
	}
	if err := store.Adopt(t.Context(), "work", adoptions); err != nil {
		t.Fatal(err)
	}
	// A message is found by what displayUID shows.
	for _, k := range keys {
		if row, found, err := findMessage(t.Context(), store, "work", displayUID(k)); row.UID != k || !found {
			t.Errorf("%q is shown as %s, by which %q was found, %v", k, displayUID(k), row.UID, err)
		}
	}
	for arg, want := range map[string]string{
		"a": "a", "ab": "ab", "abc": "abc", "b\xff\xff1": "b\xff\xff1", "c": "c d", `"c d"`: "c d", "\xff": "\xff",
		"no-uid:abd": keys[2], "no-uid:f": keys[3], "no-uid": "no-uid:", "no-uid:": "no-uid:",
	} {
		if row, found, err := findMessage(t.Context(), store, "work", arg); row.UID != want || !found || err != nil {
			t.Errorf("%q found %q, %v, want %q", arg, row.UID, err, want)
		}
	}
	for _, arg := range []string{"d", "abcd", "no-uid:00", "no-uid:xy", "no-uid:abc+", `"d"`} {
		if row, found, err := findMessage(t.Context(), store, "work", arg); found || err != nil {
			t.Errorf("%q found %q, %v, want nothing", arg, row.UID, err)
		}
	}
	for arg, hint := range map[string]string{
		"b": `it is one of "b\xff\xff", "b\xff\xff1"`, "no-uid:abc": "it is one of " + displayUID(keys[0]) + ", " + displayUID(keys[1]), "": "",
	} {
		_, found, err := findMessage(t.Context(), store, "work", arg)
		if e, ok := err.(*failure); !ok || found || e.hint != hint {
			t.Errorf("%q: found %v, %v, hint %q, want %q", arg, found, err, hintOf(err), hint)
		}
	}
}
