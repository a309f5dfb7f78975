package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// appID marks a database as ours (PRAGMA application_id): "mhau".
const appID = 0x6d686175

var errNotOurs = errors.New("this is not a database of mailhaul")

// schema is what the migrations add up to. A new database is created by it, since
// running them all takes longer and delays the first poll.
const schema = `
-- next_poll to refusals, with last_success, are a Schedule, kept in a row that
-- most polls write anyway. rest and rest_until are a Rest. deleting is the time
-- of the deletions that the server has not confirmed, 0 if there are none.
-- untold and untold_bytes are Standing.Unreported and UnreportedBytes.
-- maildrop is the one that was last polled.
CREATE TABLE accounts (
	id           INTEGER PRIMARY KEY,
	name         TEXT NOT NULL UNIQUE,
	last_success INTEGER NOT NULL DEFAULT 0,
	next_poll    INTEGER NOT NULL DEFAULT 0,
	not_before   INTEGER NOT NULL DEFAULT 0,
	pause        TEXT    NOT NULL DEFAULT '',
	login_delay  INTEGER NOT NULL DEFAULT 0,
	failures     INTEGER NOT NULL DEFAULT 0,
	refusals     INTEGER NOT NULL DEFAULT 0,
	rest         BLOB,
	rest_until   INTEGER NOT NULL DEFAULT 0,
	deleting     INTEGER NOT NULL DEFAULT 0,
	untold       INTEGER NOT NULL DEFAULT 0,
	untold_bytes INTEGER NOT NULL DEFAULT 0,
	maildrop     TEXT    NOT NULL DEFAULT ''
) STRICT;

-- The key stores the rows of an account together, so that a poll reads them in
-- one sweep. phase is a Phase; header and content are NULL if they are not known.
CREATE TABLE messages (
	account  INTEGER NOT NULL,
	uid      BLOB NOT NULL,
	phase    INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	header   BLOB,
	content  BLOB,
	landed   INTEGER NOT NULL DEFAULT 0,
	deleted  INTEGER NOT NULL DEFAULT 0,
	missing  INTEGER NOT NULL DEFAULT 0,
	tries    INTEGER NOT NULL DEFAULT 0,
	next_try INTEGER NOT NULL DEFAULT 0,
	reason   TEXT NOT NULL DEFAULT '',
	seen     INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (account, uid)
) STRICT, WITHOUT ROWID;

-- id grows in the order of the promises. A delivery is open, or has landed, or
-- neither: then its promise was withdrawn. What has not landed is little, and is
-- found by deliveries_owed.
CREATE TABLE deliveries (
	id       INTEGER PRIMARY KEY,
	account  INTEGER NOT NULL,
	uid      BLOB NOT NULL,
	sink     TEXT NOT NULL,
	token    TEXT NOT NULL,
	open     INTEGER NOT NULL DEFAULT TRUE,
	place    TEXT NOT NULL DEFAULT '',
	landed   INTEGER,
	promised INTEGER NOT NULL DEFAULT 0,
	UNIQUE (account, uid, sink),
	FOREIGN KEY (account, uid) REFERENCES messages ON DELETE CASCADE ON UPDATE CASCADE
) STRICT;
CREATE INDEX deliveries_owed ON deliveries (account) WHERE landed IS NULL;

-- seq grows by one a poll, so that old polls are found without counting.
CREATE TABLE polls (
	account INTEGER NOT NULL,
	seq     INTEGER NOT NULL,
	started INTEGER NOT NULL,
	ended   INTEGER NOT NULL,
	result  TEXT NOT NULL,
	error   TEXT NOT NULL,
	hint    TEXT NOT NULL,
	fetched INTEGER NOT NULL,
	deleted INTEGER NOT NULL,
	listed  INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;

-- The sum of an account's polls of a day, for longer than polls are kept. day
-- counts from 1970-01-01.
CREATE TABLE days (
	account INTEGER NOT NULL,
	day     INTEGER NOT NULL,
	polls   INTEGER NOT NULL,
	failed  INTEGER NOT NULL,
	fetched INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;

-- A Trouble of an account. told is Trouble.Alerted.
CREATE TABLE troubles (
	account    INTEGER PRIMARY KEY,
	since      INTEGER NOT NULL,
	told       INTEGER NOT NULL,
	level      INTEGER NOT NULL,
	warned     INTEGER NOT NULL DEFAULT 0,
	unfiltered INTEGER NOT NULL DEFAULT 0,
	sink       INTEGER NOT NULL DEFAULT FALSE,
	undeleted  INTEGER NOT NULL DEFAULT 0,
	causes     TEXT    NOT NULL DEFAULT ''
) STRICT;

-- A Server. before and after are its lines, separated by line feeds.
CREATE TABLE servers (
	account INTEGER PRIMARY KEY,
	key     TEXT NOT NULL,
	before  TEXT NOT NULL,
	after   TEXT NOT NULL,
	asked   INTEGER NOT NULL
) STRICT;
`

// migrations lead from one version of the schema to the next. The PRAGMA user_version
// of a database counts those that it has been through. A migration is never changed
// once it was released.
var migrations = []string{`
CREATE TABLE accounts (
	id           INTEGER PRIMARY KEY,
	name         TEXT NOT NULL UNIQUE,
	last_success INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Keyed by what a poll asks for, so that the rows of an account lie together
-- and are read in one sweep. phase is a Phase; sums are NULL if none was taken.
CREATE TABLE messages (
	account  INTEGER NOT NULL,
	uid      BLOB NOT NULL,
	phase    INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	header   BLOB,
	content  BLOB,
	landed   INTEGER NOT NULL DEFAULT 0,
	deleted  INTEGER NOT NULL DEFAULT 0,
	missing  INTEGER NOT NULL DEFAULT 0,
	tries    INTEGER NOT NULL DEFAULT 0,
	next_try INTEGER NOT NULL DEFAULT 0,
	reason   TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (account, uid)
) STRICT, WITHOUT ROWID;

-- id grows in the order of the promises. A delivery is open, or has landed, or
-- neither: then its promise was withdrawn.
CREATE TABLE deliveries (
	id      INTEGER PRIMARY KEY,
	account INTEGER NOT NULL,
	uid     BLOB NOT NULL,
	sink    TEXT NOT NULL,
	token   TEXT NOT NULL,
	open    INTEGER NOT NULL DEFAULT TRUE,
	place   TEXT NOT NULL DEFAULT '',
	landed  INTEGER,
	UNIQUE (account, uid, sink),
	FOREIGN KEY (account, uid) REFERENCES messages ON DELETE CASCADE ON UPDATE CASCADE
) STRICT;
CREATE INDEX deliveries_open ON deliveries (account) WHERE open;

-- seq grows by one a poll, so that old polls are found without counting.
CREATE TABLE polls (
	account INTEGER NOT NULL,
	seq     INTEGER NOT NULL,
	started INTEGER NOT NULL,
	ended   INTEGER NOT NULL,
	result  TEXT NOT NULL,
	error   TEXT NOT NULL,
	hint    TEXT NOT NULL,
	fetched INTEGER NOT NULL,
	deleted INTEGER NOT NULL,
	listed  INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;
`, `
-- What a person was told of an account that does not do well.
CREATE TABLE troubles (
	account INTEGER PRIMARY KEY,
	since   INTEGER NOT NULL,
	told    INTEGER NOT NULL,
	level   INTEGER NOT NULL
) STRICT;
`, `
-- A Schedule; it lies in a row that most polls write anyway.
ALTER TABLE accounts ADD COLUMN next_poll   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN not_before  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN pause       TEXT    NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN login_delay INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN failures    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN refusals    INTEGER NOT NULL DEFAULT 0;
`, `
-- For a person who asks what became of a message; 0 in rows that are older.
ALTER TABLE messages ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN promised INTEGER NOT NULL DEFAULT 0;
`, `
-- What a server said it can do, lines of replies to CAPA, and to whom.
CREATE TABLE servers (
	account INTEGER PRIMARY KEY,
	key     TEXT NOT NULL,
	before  TEXT NOT NULL,
	after   TEXT NOT NULL,
	asked   INTEGER NOT NULL
) STRICT;
`, `
-- The sum of an account's polls of a day, for longer than polls are kept. day
-- counts from 1970-01-01; those of older polls were told apart by UTC.
CREATE TABLE days (
	account INTEGER NOT NULL,
	day     INTEGER NOT NULL,
	polls   INTEGER NOT NULL,
	failed  INTEGER NOT NULL,
	fetched INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	PRIMARY KEY (account, day)
) STRICT, WITHOUT ROWID;
INSERT INTO days SELECT account, ended / 86400, count(*), sum(error <> ''), sum(fetched), sum(bytes)
	FROM polls GROUP BY account, ended / 86400;
`, `
-- When a person was told that a command after the polls fails.
ALTER TABLE troubles ADD COLUMN warned INTEGER NOT NULL DEFAULT 0;
`, `
-- A Rest; NULL if there is none.
ALTER TABLE accounts ADD COLUMN rest       BLOB;
ALTER TABLE accounts ADD COLUMN rest_until INTEGER NOT NULL DEFAULT 0;
`, `
-- When messages were marked of which nobody knows yet whether the server has
-- deleted them.
ALTER TABLE accounts ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;
`, `
-- How many messages have landed, and their octets, that no poll has told of yet.
ALTER TABLE accounts ADD COLUMN untold       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN untold_bytes INTEGER NOT NULL DEFAULT 0;
`, `
-- When a person was told that the filter fails.
ALTER TABLE troubles ADD COLUMN unfiltered INTEGER NOT NULL DEFAULT 0;
`, `
-- Whose maildrop the last poll was of; empty if it did not note it.
ALTER TABLE accounts ADD COLUMN maildrop TEXT NOT NULL DEFAULT '';
`, `
-- Sums of contents are HighwayHash-128 from now on, or SHA-256 as they were. A
-- program that knows only those is not to take messages for others.
`, `
DROP INDEX deliveries_open;
CREATE INDEX deliveries_owed ON deliveries (account) WHERE landed IS NULL;
`, `
-- Whether it is a sink's.
ALTER TABLE troubles ADD COLUMN sink INTEGER NOT NULL DEFAULT FALSE;
`, `
-- When a person was told that the server would not delete mail, and what of the trouble
-- needs a person, as far as that was told.
ALTER TABLE troubles ADD COLUMN undeleted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE troubles ADD COLUMN causes TEXT NOT NULL DEFAULT '';
`}

// checkSchema returns the version of the schema of the database at path. A database of
// another program is an error, and so is an empty file: it was damaged, and must not be
// taken for a new database.
func checkSchema(ctx context.Context, path string, db querier) (int, error) {
	var id, version int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, wrap(path, "open", err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, wrap(path, "open", err)
	}
	if id != appID {
		return 0, &Error{Path: path, Op: "open", Err: errNotOurs,
			Hint: damagedHint(path)}
	}
	if version > len(migrations) {
		return 0, &Error{Path: path, Op: "open",
			Err:  fmt.Errorf("written by a newer mailhaul (schema %d, this one knows up to %d)", version, len(migrations)),
			Hint: "upgrade mailhaul"}
	}
	return version, nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// migrate brings the schema to the newest version, all or nothing. Even if it is the
// newest already, the commit writes a page.
func migrate(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer conn.ExecContext(context.Background(), "ROLLBACK") // no-op after COMMIT

	// Read within the transaction: another process may have migrated it just now.
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if _, err := conn.ExecContext(ctx, migrations[version]); err != nil {
			return err
		}
	}
	_, err := conn.ExecContext(ctx, fmt.Sprintf(
		"PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", appID, version))
	return err
}
