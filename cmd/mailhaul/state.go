package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oldids"
	"github.com/mailhaul/mailhaul/deliver/durable"
	"github.com/mailhaul/mailhaul/deliver/smtp"
	"github.com/mailhaul/mailhaul/deliver/spool"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func stateCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "state",
		Usage:     "look after what mailhaul remembers: list, retry, forget, adopt, rename, export, import",
		ArgsUsage: "COMMAND",
		Description: "Those that change something show what they would do and ask first, but for retry.\n" +
			"They wait for no fetch: an account that is being polled is left alone, with exit\n" +
			"code 75. 77 is the exit code if the answer was no.",
		OnUsageError: badFlag,
		Subcommands: []*cli.Command{
			stateListCommand(std), retryCommand(std), forgetCommand(std), adoptCommand(std), renameCommand(std), exportCommand(std), importCommand(std),
			hiddenHelp(std),
		},
		Action: func(c *cli.Context) error {
			hint := "commands: " + commandNames(stateCommand(std).Subcommands)
			if c.Args().Present() {
				return usagef(hint, "there is no command %q", "state "+c.Args().First())
			}
			return usagef(hint, "mailhaul state takes a command")
		},
	}
}

// openState opens what is remembered of at least something, for changes.
func openState(ctx context.Context, path string) (*config.Config, *state.Store, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	// Looking creates nothing.
	reader, err := state.OpenReadOnly(ctx, cfg.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, usagef("", "nothing is remembered in %s", cfg.State)
	} else if err == nil {
		reader.Close()
	}
	store, err := state.Open(ctx, cfg.State)
	return cfg, store, err
}

// remembered returns what is remembered of an account, which must be
// something.
func remembered(ctx context.Context, cfg *config.Config, store *state.Store, name string) (state.Account, error) {
	all, err := store.Accounts(ctx)
	if err != nil {
		return state.Account{}, err
	}
	var names []string
	for _, a := range all {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	hint := ""
	if len(names) > 0 {
		hint = "remembered are " + strings.Join(names, ", ")
	}
	return state.Account{}, usagef(hint, "nothing is remembered of an account %q in %s", name, cfg.State)
}

func retryCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "have the next fetch try messages that were refused, without the pause",
		ArgsUsage: "ACCOUNT [UID…]",
		Description: "Use it once what stood in their way is mended. Nothing is forgotten: of several sinks,\n" +
			"only those are tried that do not have the message. Without UIDs it is all messages\n" +
			"that were refused; UID is as for mailhaul explain.",
		Flags:        []cli.Flag{configFlag()},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("mailhaul state retry work", "mailhaul state retry takes an account")
			}
			return runRetry(c.Context, std, c.String("config"), c.Args().First(), c.Args().Tail())
		},
	}
}

func runRetry(ctx context.Context, std stdio, path, name string, uids []string) error {
	_, store, done, err := hold(ctx, path, name)
	if err != nil {
		return err
	}
	defer done()
	rows, err := findMessages(ctx, store, name, uids)
	if err != nil {
		return err
	}
	var keys []string
	for _, r := range rows {
		if r.NextTry == 0 || r.Phase != state.Refused && r.Phase != state.Promised {
			return usagef("", "%s: message %s is not waiting for another try", name, shownUID(r.UID))
		}
		keys = append(keys, r.UID)
	}
	n, err := store.Retry(ctx, name, time.Now().Unix(), keys)
	switch {
	case err != nil:
		return err
	case n == 0:
		fmt.Fprintf(std.out, "%s: no message waits for another try\n", name)
	default:
		fmt.Fprintf(std.out, "%s: the next fetch tries %s\n", name, count(int(n), "refused message"))
	}
	return nil
}

func forgetCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "forget",
		Usage:     "forget an account, or single messages, so that they are fetched again",
		ArgsUsage: "ACCOUNT [UID…]",
		Description: "What is still on the server is new to the next fetch: it is delivered again. UID is\n" +
			"as for mailhaul explain.",
		Flags:        []cli.Flag{configFlag(), yesFlag()},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("mailhaul state forget work", "mailhaul state forget takes an account")
			}
			return runForget(c.Context, std, c.String("config"), c.Args().First(), c.Args().Tail(), c.Bool("yes"))
		},
	}
}

// hold opens what is remembered of an account, for changes while nobody polls it.
func hold(ctx context.Context, path, name string) (cfg *config.Config, store *state.Store, done func(), err error) {
	if cfg, store, err = openState(ctx, path); err != nil {
		return nil, nil, nil, err
	}
	var lease *state.Lease
	if _, err = remembered(ctx, cfg, store, name); err == nil {
		lease, err = store.Lease(ctx, name)
	}
	if err != nil {
		store.Close()
		return nil, nil, nil, err
	}
	return cfg, store, func() {
		lease.Release()
		store.Close()
	}, nil
}

func runForget(ctx context.Context, std stdio, path, name string, uids []string, yes bool) error {
	cfg, store, done, err := hold(ctx, path, name)
	if err != nil {
		return err
	}
	defer done()
	if len(uids) > 0 {
		return forgetMessages(ctx, std, store, name, uids, yes)
	}
	w, err := wire(cfg)
	if err != nil {
		return err
	}
	defer w.Close()
	a, err := remembered(ctx, cfg, store, name)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s remembered. When last asked, the server had %d of them:\n"+
		"what is still there is fetched again, and delivered a second time.\n", name, count(a.Messages, "message"), a.Listed)
	if err := std.confirm("Forget the account "+name+"?", yes); err != nil {
		return err
	}
	if err := store.Forget(ctx, name); err != nil {
		return err
	}
	// An account that has left the configuration is not polled, which would do it.
	// The sinks come before their spool: an mbox completes from there what a crash
	// has torn.
	for _, sink := range w.sinks {
		err = errors.Join(err, sink.Sweep(ctx, name))
	}
	if err == nil {
		err = w.spool.Sweep(name)
	}
	fmt.Fprintf(std.out, "%s: forgotten\n", name)
	if err != nil {
		fmt.Fprintf(std.err, "mailhaul: warning: mail that was left on its way may stay on this disk: %v\n", err)
	}
	return nil
}

// findMessages returns the rows of the messages that args name, each once, of
// all of which something must be remembered.
func findMessages(ctx context.Context, store *state.Store, account string, args []string) (rows []state.Row, err error) {
	for _, arg := range args {
		row, found, err := findMessage(ctx, store, account, arg)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, usagef("", "%s: nothing is remembered of a message %q", account, arg)
		}
		if !slices.ContainsFunc(rows, func(r state.Row) bool { return r.UID == row.UID }) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func forgetMessages(ctx context.Context, std stdio, store *state.Store, name string, uids []string, yes bool) error {
	rows, err := findMessages(ctx, store, name, uids)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: if they are still on the server, these are fetched again, and delivered a second time:\n", name)
	var forget []string
	for _, r := range rows {
		fmt.Fprintf(std.out, "  %s (%s), %v\n", shownUID(r.UID), size(r.Size), r.Phase)
		forget = append(forget, r.UID)
	}
	if err := std.confirm("Forget "+count(len(rows), "message")+"?", yes); err != nil {
		return err
	}
	h := state.Housekeeping{Forget: forget}
	if slices.ContainsFunc(rows, func(r state.Row) bool { return r.Deleted != 0 || r.Missing != 0 }) {
		// It was what may have told that the server gave its unique-id to another
		// message, and so all of them: now each that is listed is looked at.
		all, err := store.Rows(ctx, name)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Phase != state.Deleted {
				h.Missing = append(h.Missing, r.UID)
			}
		}
	}
	if err := store.Keep(ctx, name, time.Now().Unix(), h); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s forgotten\n", name, count(len(rows), "message"))
	return nil
}

func adoptCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "adopt",
		Usage:     "mark the mail that is now on the server as seen, and fetch only what comes later",
		ArgsUsage: "ACCOUNT",
		Description: "It logs in, lists, and looks at the headers, which tell old mail from new should the\n" +
			"server rename it. Messages of which nothing is remembered are adopted: they are\n" +
			"never fetched, and never deleted from the server, whatever keep says. What was\n" +
			"delivered or refused before stays as it is. mailhaul state forget ACCOUNT UID…\n" +
			"undoes it for single messages; without UIDs, all that was kept on the server is\n" +
			"delivered again, too.\n\n" +
			"With --before it is only what came in before a day, as the headers of the messages\n" +
			"have it; one that has no date is fetched. With --from it is only what another\n" +
			"fetcher remembers: fetchmail in ~/.fetchids, getmail in its oldmail-… file, mpop in\n" +
			"~/.mpop_uidls or its uidls_file, fdm in its cache.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "before", Usage: "adopt what came in before the `DAY`, such as 2026-11-28, and fetch the rest"},
			&cli.StringFlag{Name: "from", Usage: "adopt what another fetcher remembers in `FILE`, and fetch the rest"},
			yesFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("mailhaul state adopt work", "mailhaul state adopt takes one account")
			}
			var before time.Time
			if day := c.String("before"); day != "" {
				var err error
				if before, err = time.ParseInLocation(time.DateOnly, day, time.Local); err != nil {
					return usagef("write a day as 2026-11-28", "--before %q is not a day", day)
				}
			}
			if !before.IsZero() && c.String("from") != "" {
				return usagef("", "--before and --from cannot be used together")
			}
			return runAdopt(c.Context, std, c.String("config"), c.Args().First(), before, c.String("from"), c.Bool("yes"))
		},
	}
}

func runAdopt(ctx context.Context, std stdio, path, name string, before time.Time, from string, yes bool) error {
	cfg, chosen, w, err := wired(path, []string{name})
	if err != nil {
		return err
	}
	defer w.Close()
	account := w.account(chosen[0])
	old, which := fetch.Old{Before: before}, ""
	if !before.IsZero() {
		which = "from before " + before.Format(time.DateOnly)
	}
	if from != "" {
		if old.Known, which, err = readOldIDs(from, account); err != nil {
			return err
		}
	}
	store, err := state.Open(ctx, cfg.State)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, stop := interruptible(ctx)
	defer stop()

	o := fetch.Options{State: store, Observer: func(e fetch.Event) {
		if e, ok := e.(fetch.Noticed); ok {
			fmt.Fprintf(std.err, "%s: %s\n", e.Account, clean(e.Text))
		}
	}}
	var own error // not the server's
	err = account.Adopt(ctx, o, old, func(found fetch.Adoption) error {
		stop() // from here on ^C ends the program, whose lease ends with it
		own = std.adopt(store, name, found, which, yes)
		return own
	})
	if _, held := errors.AsType[*state.HeldError](err); own != nil || err == nil || held {
		return err
	}
	return failedLook(std, name, err)
}

// readOldIDs reads which unique-ids another fetcher remembers of an account's
// maildrop, and words what is old by it.
func readOldIDs(path string, account *fetch.Account) (known func(uid string) bool, which string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", usagef("", "%v", err)
	}
	defer f.Close()
	program, drops, err := oldids.Read(f)
	var drop oldids.Maildrop
	if err == nil {
		drop, err = oldids.Pick(drops, account.User, account.Server.Host)
	}
	if err != nil {
		return nil, "", usagef("nothing was adopted", "%s: %v", path, err)
	}
	uids := map[string]bool{}
	for _, uid := range drop.UIDs {
		uids[uid] = true
	}
	known = func(uid string) bool { return uids[uid] || uids[oldids.Written(program, uid)] }
	which = "known to " + program
	if name := drop.String(); name != "" {
		which += " for " + name // which may be called otherwise there
	}
	return known, which, nil
}

// adopt shows what there is to adopt, asks, and does it. which says what makes
// it old, if not all is.
func (std stdio) adopt(store *state.Store, name string, found fetch.Adoption, which string, yes bool) error {
	var octets int64
	for _, m := range found.New {
		octets += m.Size
	}
	what := "new"
	if which != "" {
		what = "new and " + which
	}
	fmt.Fprintf(std.out, "%s: %s on the server, %d of them %s (%s)\n", name, count(found.Listed, "message"), len(found.New), what, size(octets))
	if found.Unknown > 0 {
		fmt.Fprintf(std.out, "  %s that it does not know will be fetched\n", count(found.Unknown, "message"))
	}
	if found.Later > 0 {
		fmt.Fprintf(std.out, "  %s came later, and will be fetched\n", count(found.Later, "message"))
	}
	if found.Undated > 0 {
		fmt.Fprintf(std.out, "  %s without a date that can be read will be fetched, too\n", count(found.Undated, "message"))
	}
	if found.Nameless > 0 {
		fmt.Fprintf(std.out, "  %s without a unique-id can be told from no other, and will be fetched\n", count(found.Nameless, "message"))
	}
	if found.Unclear > 0 {
		fmt.Fprintf(std.out, "  %s without a unique-id can be told from no other, and will be left alone\n", count(found.Unclear, "message"))
	}
	if found.Unknown > 0 && found.Unknown+found.Nameless+found.Unclear == found.Listed {
		return usagef("see whether FILE is of this account, before mailhaul fetch brings all of it",
			"%s: nothing was adopted: no message on the server is %s", name, which)
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
	if err := store.Keep(ctx, name, time.Now().Unix(), found.Keep); err != nil {
		return err
	}
	if err := store.Adopt(ctx, name, found.New); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: %s adopted\n", name, count(len(found.New), "message"))
	return nil
}

func renameCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "rename",
		Usage:     "carry over what is remembered of an account that was renamed in the configuration",
		ArgsUsage: "OLD NEW",
		Flags:     []cli.Flag{configFlag(), yesFlag()},
		Description: "Without it, an account with a new name is a new account, and all mail that is\n" +
			"still on its server is fetched again.",
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("mailhaul state rename work office", "mailhaul state rename takes the old name and the new one")
			}
			return runRename(c.Context, std, c.String("config"), c.Args().Get(0), c.Args().Get(1), c.Bool("yes"))
		},
	}
}

func runRename(ctx context.Context, std stdio, path, from, to string, yes bool) error {
	if from == to {
		return usagef("", "both names are %q", from)
	}
	cfg, store, err := openState(ctx, path)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := choose(cfg, []string{to}); err != nil {
		return err
	}
	if _, err := remembered(ctx, cfg, store, from); err != nil {
		return err
	}
	// A daemon that knows only one of the names takes its mail for new.
	daemon, err := store.DaemonLease()
	if err != nil {
		return err
	}
	defer daemon.Release()
	// Always in the same order: two of us must not wait for each other.
	for _, name := range []string{min(from, to), max(from, to)} {
		lease, err := store.Lease(ctx, name)
		if err != nil {
			return err
		}
		defer lease.Release()
	}
	all, err := store.Accounts(ctx)
	if err != nil {
		return err
	}
	stays, open := cfg.Account(from) != nil, 0
	for _, a := range all {
		switch {
		case a.Name == from && a.Open > 0 && stays:
			// Its next poll would sweep away what was promised for the other.
			return usagef("mailhaul fetch "+from+" settles them first", "%s of the account %q are on their way into a sink", count(a.Open, "message"), from)
		case a.Name == to && a.Messages > 0:
			return usagef("mailhaul state forget "+to+" makes room for it", "%s of the account %q are remembered already", count(a.Messages, "message"), to)
		case a.Name == from:
			open = a.Open
			fmt.Fprintf(std.out, "%s: %s remembered, which will be those of %s\n", from, count(a.Messages, "message"), to)
		}
	}
	if stays {
		fmt.Fprintf(std.out, "%s is in the configuration still: all mail on its server will be new to it\n", from)
	}
	if err := std.confirm("Rename "+from+" to "+to+"?", yes); err != nil {
		return err
	}
	kept := spool.New(spoolPath(cfg), durable.OS)
	for _, s := range cfg.Sinks {
		if err := smtp.Rename(kept, s.Name, from, to); err != nil {
			return err
		}
	}
	if err := store.Rename(ctx, from, to); err != nil {
		return err
	}
	if open == 0 {
		if err := kept.Sweep(from); err != nil {
			return err
		}
	}
	fmt.Fprintf(std.out, "%s: is now %s\n", from, to)
	return nil
}
