package state_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailhaul/mailhaul/fetch/state"
)

// fillers hold, by version of the schema, statements that fill what is new in it.
var fillers = map[int]string{
	1: `INSERT INTO accounts (id, name, last_success) VALUES (7, 'work', 90), (8, 'idle', 0);
		INSERT INTO messages (account, uid, phase, size, header, content, landed, deleted, missing, tries, next_try, reason) VALUES
			(7, x'00ff', 4, 1, NULL, NULL, 0, 0, 0, 3, 500, 'no room'),
			(7, CAST('deleted' AS BLOB), 3, 2, x'01000000000000000000000000000000', x'02000000000000000000000000000000', 100, 200, 300, 0, 0, ''),
			(7, CAST('landed' AS BLOB), 2, 3, NULL, NULL, 100, 0, 0, 0, 0, ''),
			(7, CAST('open' AS BLOB), 1, 4, NULL, NULL, 0, 0, 0, 0, 0, '');
		INSERT INTO deliveries (id, account, uid, sink, token, open, place, landed) VALUES
			(5, 7, CAST('landed' AS BLOB), 'home', 't1', FALSE, 'there', 100),
			(6, 7, CAST('open' AS BLOB), 'home', 't2', TRUE, '', NULL);
		INSERT INTO polls VALUES
			(7, 3, 86399, 86400, 'fine', '', '', 3, 1, 5, 30), (7, 4, 86401, 86402, 'retry', 'cut', 'wait', 1, 0, 2, 10);`,
	2:  "INSERT INTO troubles (account, since, told, level) VALUES (7, 80, 81, 3);",
	3:  `UPDATE accounts SET next_poll = 1, not_before = 2, pause = 'later', login_delay = 3, failures = 4, refusals = 5 WHERE id = 7;`,
	4:  `UPDATE messages SET seen = 70 WHERE uid = CAST('landed' AS BLOB); UPDATE deliveries SET promised = 71 WHERE id = 5;`,
	5:  `INSERT INTO servers (account, key, before, after, asked) VALUES (7, 'key', 'TOP', 'UIDL', 60);`,
	6:  `UPDATE days SET polls = 9 WHERE account = 7;`,
	7:  `UPDATE troubles SET warned = 82 WHERE account = 7;`,
	8:  `UPDATE accounts SET rest = x'05000000000000000000000000000000', rest_until = 83 WHERE id = 7;`,
	9:  `UPDATE accounts SET deleting = 201 WHERE id = 7;`,
	10: `UPDATE accounts SET untold = 84, untold_bytes = 85 WHERE id = 7;`,
	11: `UPDATE troubles SET unfiltered = 86 WHERE account = 7;`,
	12: `UPDATE accounts SET maildrop = 'there' WHERE id = 7;`,
	13: `UPDATE messages SET content = x'03000000000000000000000000000000' WHERE uid = CAST('deleted' AS BLOB);`,
	14: `UPDATE deliveries SET landed = 101 WHERE id = 5;`,
	15: `UPDATE troubles SET sink = TRUE WHERE account = 7;`,
	16: `UPDATE troubles SET undeleted = 87, causes = 'password' WHERE account = 7;`,
}

// Open migrates a database of any version, and keeps all that is in it.
func TestMigrate(t *testing.T) {
	for from := 1; from <= state.Newest; from++ {
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) {
			if fillers[from] == "" {
				t.Fatal("this version has no entry in fillers")
			}
			dir := filepath.Join(t.TempDir(), "state")
			ok(t, os.Mkdir(dir, 0o700))
			ok(t, os.WriteFile(filepath.Join(dir, "mailhaul.db"), nil, 0o600))
			for v := 1; v <= from; v++ {
				execRaw(t, dir, state.Upgrade(v)+fillers[v])
			}
			s, err := state.Open(t.Context(), dir)
			ok(t, err)
			defer s.Close()

			fresh := t.TempDir()
			open(t, fresh)
			if diff := cmp.Diff(describeSchema(t, filepath.Join(fresh, "state")), describeSchema(t, dir)); diff != "" {
				t.Errorf("the schema differs from that of a new database (-new +migrated):\n%s", diff)
			}

			// since returns a value that versions before v do not have.
			since := func(v int, n int64) int64 {
				if from < v {
					return 0
				}
				return n
			}
			polls := 2
			if from >= 6 {
				polls = 9
			}
			maildrop := map[bool]string{true: "there"}[from >= 12]
			causes := map[bool]string{true: "password"}[from >= 16]
			want := state.Export{
				Account: "work", LastSuccess: 90, Maildrop: maildrop,
				Messages: []state.Message{
					{Row: state.Row{UID: "\x00\xff", Phase: state.Refused, Size: 1, Tries: 3, NextTry: 500, Reason: "no room"}},
					{Row: state.Row{UID: "deleted", Phase: state.Deleted, Size: 2, Header: state.Sum{1}, Content: state.Sum{byte(2 + since(13, 1))}, Landed: 100, Deleted: 200, Missing: 300}},
					{Row: state.Row{UID: "landed", Phase: state.Landed, Size: 3, Landed: 100, Seen: since(4, 70)},
						Deliveries: []state.Delivery{{Sink: "home", Token: "t1", Where: "there", Landed: 100 + since(14, 1), Promised: since(4, 71)}}},
					{Row: state.Row{UID: "open", Phase: state.Promised, Size: 4}, Deliveries: []state.Delivery{{Sink: "home", Token: "t2", Open: true}}},
				},
				Polls: []state.Poll{
					{Started: 86399, Ended: 86400, Result: "fine", Fetched: 3, Deleted: 1, Listed: 5, Octets: 30},
					{Started: 86401, Ended: 86402, Result: "retry", Error: "cut", Hint: "wait", Fetched: 1, Listed: 2, Octets: 10},
				},
				Days: []state.Day{{Day: 1, Polls: polls, Failed: 1, Fetched: 4, Octets: 40}},
			}
			if diff := cmp.Diff(want, export(t, s, "work")); diff != "" {
				t.Errorf("export (-want +got):\n%s", diff)
			}
			health, err := s.Health(t.Context())
			ok(t, err)
			wantHealth := map[string]state.Health{
				"work": {LastSuccess: 90, Trouble: state.Trouble{Since: since(2, 80), Alerted: since(2, 81), Level: int(since(2, 3)), Sink: from >= 15, Warned: since(7, 82), Unfiltered: since(11, 86), Undeleted: since(16, 87), Causes: causes}}, "idle": {},
			}
			if diff := cmp.Diff(wantHealth, health); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
			standing, err := s.Standing(t.Context(), "work")
			ok(t, err)
			wantSchedule := state.Schedule{LastSuccess: 90}
			if from >= 3 {
				wantSchedule = state.Schedule{Next: 1, NotBefore: 2, Pause: "later", LoginDelay: 3, Failures: 4, Refusals: 5, LastSuccess: 90}
			}
			if diff := cmp.Diff(wantSchedule, standing.Schedule); diff != "" {
				t.Errorf("schedule (-want +got):\n%s", diff)
			}
			if !standing.Open {
				t.Error("no promise is open")
			}
			if want := from >= 9; standing.Unconfirmed != want {
				t.Errorf("messages in doubt: %v, want %v", standing.Unconfirmed, want)
			}
			if want := (state.Rest{Listing: state.Sum{byte(since(8, 5))}, Until: since(8, 83)}); standing.Rest != want {
				t.Errorf("at rest %+v, want %+v", standing.Rest, want)
			}
			if n, octets := since(10, 84), since(10, 85); standing.Unreported != int(n) || standing.UnreportedBytes != octets {
				t.Errorf("%d messages, %d octets unreported, want %d, %d", standing.Unreported, standing.UnreportedBytes, n, octets)
			}
			if standing.Maildrop != maildrop {
				t.Errorf("maildrop %q, want %q", standing.Maildrop, maildrop)
			}
			if got := standing.Server.Asked; got != since(5, 60) {
				t.Errorf("the server was asked at %d", got)
			}

			// The migrated database can be written to.
			apply(t, s, doPromise(promise("new", "home")))
			ok(t, s.SavePoll(t.Context(), "work", state.Poll{Ended: time.Date(1970, 1, 2, 12, 0, 0, 0, time.Local).Unix()}))
			now := export(t, s, "work")
			if m := now.Messages[3]; len(now.Messages) != 5 || m.UID != "new" || m.Seen == 0 || m.Deliveries[0].Promised == 0 {
				t.Errorf("remembered: %+v", now.Messages)
			}
			if len(now.Polls) != 3 || len(now.Days) != 1 || now.Days[0].Polls != polls+1 {
				t.Errorf("polls %v, days %v", now.Polls, now.Days)
			}
		})
	}
}

// describeSchema returns the tables and indexes of a database, and the columns of each
// with their types, defaults and keys, as lines.
func describeSchema(t *testing.T, dir string) []string {
	db := openRaw(t, filepath.Join(dir, "mailhaul.db"))
	defer db.Close()
	rows, err := db.Query(`
		SELECT m.type || ' ' || m.name || ' of ' || m.tbl_name || coalesce(': ' || l.strict || l.wr, '') || coalesce(': ' || x.name || ' ' || x.desc, '')
			|| coalesce(': ' || c.cid || ' ' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value, '-') || ' ' || c.pk, '')
			|| coalesce(': ' || f."from" || ' -> ' || f."table" || ' ' || f.on_update || ' ' || f.on_delete, '')
			|| CASE WHEN m.type = 'index' THEN coalesce(': ' || m.sql, '') ELSE '' END
		FROM sqlite_schema m
		LEFT JOIN pragma_table_list l ON m.type = 'table' AND l.name = m.name
		LEFT JOIN pragma_table_info(m.name) c ON m.type = 'table'
		LEFT JOIN pragma_foreign_key_list(m.name) f ON m.type = 'table' AND f."from" = c.name
		LEFT JOIN pragma_index_xinfo(m.name) x ON m.type = 'index'
		ORDER BY 1`)
	ok(t, err)
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		ok(t, rows.Scan(&s))
		all = append(all, s)
	}
	ok(t, rows.Err())
	if len(all) < 50 {
		t.Fatalf("the schema has only %q", all)
	}
	return all
}
