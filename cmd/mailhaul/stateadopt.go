package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oldids"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateAdoptCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "adopt",
		Usage:     "mark the mail that is now on the server as seen, and fetch only what arrives later",
		ArgsUsage: "ACCOUNT",
		Description: "It logs in, lists, and looks at the headers, by which old mail is recognised should\n" +
			"the server give it new unique-ids. Messages of which nothing is remembered are\n" +
			"adopted: they are never fetched, and never deleted from the server, whatever keep\n" +
			"says. What was delivered or refused before stays as it is. mailhaul state forget\n" +
			"ACCOUNT UID… undoes this for single messages; without UIDs, everything that was kept\n" +
			"on the server is delivered again, too.\n\n" +
			"With --before only mail that arrived before that day is adopted, according to its\n" +
			"header; a message without a date is fetched. With --from only what another fetcher\n" +
			"remembers is adopted: fetchmail in ~/.fetchids, getmail in its oldmail-… file, mpop\n" +
			"in a file in ~/.mpop_uidls or its uidls_file, fdm in its cache, Thunderbird in the\n" +
			"popstate.dat of the account.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "before", Usage: "adopt what arrived before the `DAY`, such as 2026-11-28, and fetch the rest"},
			&cli.StringFlag{Name: "from", Usage: "adopt what another fetcher remembers in `FILE`, and fetch the rest"},
			yesFlag(),
		},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runStateAdopt(c, std) },
	}
}

// runStateAdopt adopts messages on the server of one account.
func runStateAdopt(c *cli.Context, std stdio) error {
	if c.NArg() != 1 {
		return usagef("mailhaul state adopt work", "mailhaul state adopt takes one account")
	}
	name, from := c.Args().First(), c.String("from")
	before, err := parseDay(c.String("before"))
	if err != nil {
		return err
	}
	if !before.IsZero() && from != "" {
		return usagef("", "--before and --from cannot be used together")
	}
	cfg, chosen, w, err := loadAndWire(c.String("config"), []string{name})
	if err != nil {
		return err
	}
	defer w.Close()
	account := w.account(chosen[0])
	old, oldBy := fetch.Old{Before: before}, ""
	if !before.IsZero() {
		oldBy = "from before " + before.Format(time.DateOnly)
	}
	if from != "" {
		if old.Known, oldBy, err = readOldIDs(from, account); err != nil {
			return err
		}
	}
	store, err := state.Open(c.Context, cfg.State)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, stop := cancelOnSignal(c.Context, std, w)
	defer stop()

	o := fetch.Options{State: store, Observer: func(e fetch.Event) {
		if e, ok := e.(fetch.Noticed); ok {
			fmt.Fprintf(std.err, "%s: %s\n", e.Account, clean(e.Text))
		}
	}}
	var adoptErr error // of this program, not of the server
	err = account.Adopt(ctx, o, old, func(found fetch.Adoption) error {
		stop() // while the question waits, ^C kills the program, and with it the lease
		adoptErr = confirmAdoption(std, store, name, found, oldBy, c.Bool("yes"))
		return adoptErr
	})
	if _, held := errors.AsType[*state.HeldError](err); adoptErr != nil || err == nil || held {
		return err
	}
	return writeLookFailure(std.err, name, err)
}

// parseDay returns the beginning of a day of --before, the zero time for "".
func parseDay(day string) (time.Time, error) {
	if day == "" {
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, day, time.Local)
	if err != nil || t.IsZero() {
		return time.Time{}, usagef("write a day as 2026-11-28", "--before %q is not a day", day)
	}
	return t, nil
}

// readOldIDs reads the file in which another fetcher remembers unique-ids. known reports
// whether that one has fetched a message of the account. oldBy says by what a message is
// old, such as "known to mpop".
func readOldIDs(path string, account *fetch.Account) (known func(uid string) bool, oldBy string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", usagef("", "%v", err)
	}
	defer f.Close()
	program, drops, err := oldids.Read(f)
	if errors.Is(err, syscall.EISDIR) { // such as ~/.mpop_uidls
		return nil, "", usagef("name a file in it", "%s is a folder", path)
	}
	if err != nil { // such as a fetchmailrc
		return nil, "", usagef("nothing was adopted: name not the fetcher's configuration, but the file in which it remembers, such as ~/.fetchids",
			"%s: %v", path, err)
	}
	drop, err := oldids.Pick(drops, account.User, account.Server.Host)
	if err != nil {
		hint := "nothing was adopted"
		if len(drops) > 0 {
			hint += fmt.Sprintf("; if one of them is this maildrop, call it %s at %s in a copy of the file, and adopt from that", account.User, account.Server.Host)
		}
		return nil, "", usagef(hint, "%s: %v", path, err)
	}
	uids := map[string]bool{}
	for _, uid := range drop.UIDs {
		uids[uid] = true
	}
	known = func(uid string) bool { return uids[uid] || uids[oldids.Written(program, uid)] }
	oldBy = "known to " + program
	if name := drop.String(); name != "" {
		oldBy += " for " + name // the file may name the maildrop otherwise
	}
	return known, oldBy, nil
}

// confirmAdoption shows what can be adopted, asks, and adopts it. oldBy says by what
// messages are old, "" if all are to be adopted.
func confirmAdoption(std stdio, store *state.Store, name string, found fetch.Adoption, oldBy string, yes bool) error {
	writeAdoption(std.out, name, found, oldBy)
	if found.Unknown > 0 && found.Unknown+found.Keyless+found.Unclear == found.Listed {
		return usagef("see whether FILE is of this account, before mailhaul fetch brings all of it",
			"%s: nothing was adopted: no message on the server is %s", name, oldBy)
	}
	if len(found.New) == 0 {
		fmt.Fprintf(std.out, "%s: nothing to adopt\n", name)
		return nil
	}
	fmt.Fprintln(std.out, "What is adopted is never fetched and never deleted from the server.")
	if err := std.confirm("Adopt "+count(len(found.New), "message")+"?", yes); err != nil {
		return err
	}
	ctx := context.Background()
	if err := store.Keep(ctx, name, time.Now().Unix(), found.Learned); err != nil {
		return err
	}
	if err := store.Adopt(ctx, name, found.New); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s adopted\n", name, count(len(found.New), "message"))
	return nil
}

// writeAdoption writes how many messages can be adopted, and what becomes of the others.
func writeAdoption(out io.Writer, name string, found fetch.Adoption, oldBy string) {
	var octets int64
	for _, m := range found.New {
		octets += m.Size
	}
	adoptable := "new"
	if oldBy != "" {
		adoptable = "new and " + oldBy
	}
	fmt.Fprintf(out, "%s: %s on the server, %d of them %s (%s)\n", name, count(found.Listed, "message"), len(found.New), adoptable, size(octets))
	for _, others := range []struct {
		n    int
		what string
	}{
		{found.Unknown, "that it does not know will be fetched"},
		{found.Later, "came later, and will be fetched"},
		{found.Undated, "without a date that can be read will be fetched, too"},
		{found.Keyless, "without a unique-id can be told from no other, and will be fetched"},
		{found.Unclear, "without a unique-id can be told from no other, and will be left alone"},
	} {
		if others.n > 0 {
			fmt.Fprintf(out, "  %s %s\n", count(others.n, "message"), others.what)
		}
	}
}
