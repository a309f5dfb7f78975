package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/config"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

func explainCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell the story of one message: seen, delivered, kept, deleted or refused, and when",
		ArgsUsage: "ACCOUNT UID",
		Description: "UID is the message's unique-id as the server gives it or as mailhaul shows it, or a\n" +
			"beginning of it that no other message has; mailhaul plan and mailhaul list --uids\n" +
			"show those on the server. It connects to nothing: it tells what is remembered, and\n" +
			"that ends 30 days after the server ceased to list a message.",
		Flags: []cli.Flag{
			configFlag(),
			jsonFlag(),
		},
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("mailhaul explain work 1234", "mailhaul explain takes an account and a unique-id")
			}
			return runExplain(c.Context, std, c.String("config"), c.Args().Get(0), c.Args().Get(1), c.Bool("json"))
		},
	}
}

func runExplain(ctx context.Context, std stdio, path, account, uid string, asJSON bool) error {
	cfg, store, done, err := lookUp(ctx, path)
	if err != nil {
		return err
	}
	defer done()
	l := explanation{account: account, query: uid}
	if l.accountConfig = cfg.Account(account); l.accountConfig == nil {
		// An account that was taken out of the file is remembered still.
		if _, err := remembered(ctx, cfg, store, account); err != nil {
			return err
		}
	}
	if l.row, l.found, err = findMessage(ctx, store, account, uid); err != nil {
		return err
	}
	if l.found {
		if l.deliveries, err = store.Deliveries(ctx, account, l.row.UID); err != nil {
			return err
		}
	}
	if asJSON {
		return l.writeJSON(std.out)
	}
	l.write(std.out, time.Now())
	return nil
}

// explanation is what is known of a message.
type explanation struct {
	account       string
	accountConfig *config.Account // nil if it is not in the configuration
	query         string          // what the message was asked for by
	found         bool            // else the rest is empty
	row           state.Row
	deliveries    []state.Delivery
}

// phase is the row's, but for a message that is on its way to nobody, and could not
// be delivered, as far as that is known.
func (l *explanation) phase() state.Phase {
	open, landed := false, false
	for _, d := range l.deliveries {
		open, landed = open || d.Open, landed || d.Landed != 0
	}
	if l.row.Phase == state.Promised && !open && (landed || l.row.Tries > 0) {
		return state.Refused
	}
	return l.row.Phase
}

// timelineEntry is one thing that happened to a message.
type timelineEntry struct {
	at   int64 // in Unix seconds; 0 was not noted
	text string
}

// write tells the life of a message: what happened, and what comes next.
func (l *explanation) write(out io.Writer, now time.Time) {
	if !l.found {
		fmt.Fprintf(out, "%s: nothing is remembered of a message %q.\n", l.account, clean(l.query))
		fmt.Fprintln(out, "If it is on the server, it was never seen, or was forgotten since, and the next fetch takes it.")
		return
	}
	fmt.Fprintf(out, "%s: message %s (%s)\n", l.account, shownUID(l.row.UID), size(l.row.Size))
	for _, h := range l.timeline() {
		moment := strings.Repeat(" ", len(time.DateTime))
		if h.at != 0 {
			moment = localTime(h.at)
		}
		fmt.Fprintf(out, "  %s  %s\n", moment, clean(h.text))
	}
	for _, sentence := range l.outlook(now) {
		fmt.Fprintln(out, clean(sentence))
	}
}

func localTime(unix int64) string { return time.Unix(unix, 0).Format(time.DateTime) }

// timeline returns what happened, in the order of time.
func (l *explanation) timeline() []timelineEntry {
	first := "first seen"
	if l.row.Phase == state.Adopted {
		first = "adopted: it was on the server when all mail there was marked as seen"
	}
	all := []timelineEntry{{l.row.Seen, first}}
	for _, d := range l.deliveries {
		all = append(all, timelineEntry{d.Promised, "promised to " + d.Sink})
		if d.Landed != 0 {
			all = append(all, timelineEntry{d.Landed, fmt.Sprintf("landed in %s: %s", d.Sink, tilde(d.Where))})
		}
	}
	switch {
	case l.row.Phase == state.Deleted:
		all = append(all, timelineEntry{l.row.Deleted, "deleted from the server, which confirmed it"})
	case l.row.Deleted != 0:
		all = append(all, timelineEntry{l.row.Deleted, "the server was asked to delete it, and did not confirm that"})
	}
	if l.row.Missing != 0 && l.row.Missing != l.row.Deleted {
		all = append(all, timelineEntry{l.row.Missing, "no longer seen on the server"})
	}
	all = slices.DeleteFunc(all, func(h timelineEntry) bool { return h.at == 0 })
	slices.SortStableFunc(all, func(a, b timelineEntry) int { return cmp.Compare(a.at, b.at) })
	return all
}

// outlook says how things stand with the message and what comes next.
func (l *explanation) outlook(now time.Time) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, d := range l.deliveries {
		switch {
		case d.Open:
			say("It is on its way to %s: a fetch is under way, or was cut off and the next one settles it.", d.Sink)
		case d.Landed == 0:
			say("The sink %s did not take it.", d.Sink)
		}
	}
	if reason := l.row.Reason; reason != "" {
		what := "Refused"
		if l.row.Phase == state.Promised && l.row.Tries == 0 {
			what = "Not delivered"
		}
		say("%s: %s.", what, strings.TrimSuffix(reason, "."))
		switch {
		case l.row.Tries == 0: // since mailhaul state retry
			say("The next fetch tries it again.")
		case l.row.NextTry == 0: // it was never begun: the server had said how large it is
			say("It is fetched once max_size allows it.")
		case l.row.NextTry > now.Unix():
			say("Tried %s, next try %s.", count(l.row.Tries, "time"), localTime(l.row.NextTry))
		default:
			say("Tried %s, and again by the next fetch.", count(l.row.Tries, "time"))
		}
	}
	switch {
	case l.accountConfig == nil:
		say("The account is not in the configuration: nothing is fetched or deleted.")
	case l.row.Missing != 0 || l.row.Phase == state.Deleted:
	case l.row.Phase == state.Landed:
		say("%s", l.keepSentence(now))
	case l.row.Phase == state.Adopted:
		say("It stays on the server, whatever keep says: it is never fetched and never deleted.")
	case l.phase() == state.Refused:
		say("It stays on the server.")
	}
	if until := l.forgottenAt(); until != 0 {
		say("It is remembered until %s, unless the server lists it again.", localTime(until))
	}
	return all
}

// keepSentence says until when a message stays that landed.
func (l *explanation) keepSentence(now time.Time) string {
	until, ever := l.keptUntil()
	switch {
	case !ever:
		return "It stays on the server (keep: forever)."
	case l.row.Landed > l.accountConfig.Keep.Due(now):
		return fmt.Sprintf("It stays on the server until %s; the first fetch after that deletes it.", localTime(until))
	default:
		return "It is due to be deleted from the server: the next fetch does it."
	}
}

// keptUntil returns until when the configuration wants a message that landed kept,
// in Unix seconds. ever is false if it wants it for ever.
func (l *explanation) keptUntil() (until int64, ever bool) {
	if l.accountConfig.Keep.Forever {
		return 0, false
	}
	return time.Unix(l.row.Landed, 0).Add(l.accountConfig.Keep.For).Unix(), true
}

// forgottenAt returns when the message is forgotten if the server does not list
// it any more, in Unix seconds; else 0.
func (l *explanation) forgottenAt() int64 {
	gone := max(l.row.Missing, l.row.Deleted)
	if gone == 0 {
		return 0
	}
	return time.Unix(gone, 0).Add(fetch.Remembered).Unix()
}

// explanationJSON is what explain --json writes. The names are stable; fields may be
// added. Times are RFC 3339 in UTC, null for never or not noted.
type explanationJSON struct {
	Account    string         `json:"account"`
	UID        string         `json:"uid"`   // empty if the server gives none
	Name       string         `json:"name"`  // what mailhaul explain finds it by
	Phase      string         `json:"phase"` // promised, landed, deleted, refused, adopted or unknown
	Octets     int64          `json:"bytes"`
	Seen       *time.Time     `json:"seen"`
	Deliveries []deliveryJSON `json:"deliveries"`
	Landed     *time.Time     `json:"landed"` // in all sinks
	KeptUntil  *time.Time     `json:"kept_until"`
	Deleted    *time.Time     `json:"deleted"`
	Missing    *time.Time     `json:"missing"`
	Forgotten  *time.Time     `json:"forgotten"` // when it will be
	Reason     string         `json:"reason"`
	Tries      int            `json:"tries"`
	NextTry    *time.Time     `json:"next_try"`
}

type deliveryJSON struct {
	Sink     string     `json:"sink"`
	State    string     `json:"state"` // open, landed or withdrawn
	Where    string     `json:"where"`
	Promised *time.Time `json:"promised"`
	Landed   *time.Time `json:"landed"`
}

func (l *explanation) writeJSON(out io.Writer) error {
	r := l.row
	j := explanationJSON{
		Account: l.account, UID: jsonUID(r.UID), Name: shownUID(r.UID), Phase: l.phase().String(), Octets: r.Size,
		Seen: instant(r.Seen), Deliveries: []deliveryJSON{}, Landed: instant(r.Landed),
		Missing: instant(r.Missing), Forgotten: instant(l.forgottenAt()), Reason: r.Reason, Tries: r.Tries, NextTry: instant(r.NextTry),
	}
	if !l.found {
		j.UID, j.Name = l.query, l.query
	}
	if r.Phase == state.Deleted {
		j.Deleted = instant(r.Deleted)
	}
	if r.Phase == state.Landed && r.Missing == 0 && l.accountConfig != nil {
		if until, ever := l.keptUntil(); ever {
			j.KeptUntil = instant(until)
		}
	}
	for _, d := range l.deliveries {
		how := "withdrawn"
		switch {
		case d.Open:
			how = "open"
		case d.Landed != 0:
			how = "landed"
		}
		j.Deliveries = append(j.Deliveries, deliveryJSON{d.Sink, how, d.Where, instant(d.Promised), instant(d.Landed)})
	}
	return writeJSON(out, j)
}
