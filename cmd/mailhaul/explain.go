package main

import (
	"cmp"
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
		Flags:        []cli.Flag{configFlag(), jsonFlag()},
		OnUsageError: badFlag,
		Action:       func(c *cli.Context) error { return runExplain(c, std) },
	}
}

func runExplain(c *cli.Context, std stdio) error {
	if c.NArg() != 2 {
		return usagef("mailhaul explain work 1234", "mailhaul explain takes an account and a unique-id")
	}
	ctx, account, uid := c.Context, c.Args().Get(0), c.Args().Get(1)
	cfg, store, done, err := loadConfigAndStateReadOnly(ctx, c.String("config"))
	if err != nil {
		return err
	}
	defer done()
	e := explanation{account: account, accountConfig: cfg.Account(account), query: uid}
	if e.accountConfig == nil {
		// An account that was removed from the file may still be remembered.
		if _, err := rememberedAccount(ctx, cfg, store, account); err != nil {
			return err
		}
	}
	if e.row, e.found, err = findMessage(ctx, store, account, uid); err != nil {
		return err
	}
	if e.found {
		if e.deliveries, err = store.Deliveries(ctx, account, e.row.UID); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return e.writeJSON(std.out)
	}
	e.write(std.out, time.Now())
	return nil
}

// explanation is what the state tells of one message.
type explanation struct {
	account       string
	accountConfig *config.Account // nil if the account is not in the configuration
	query         string          // the unique-id on the command line
	found         bool            // false leaves row and deliveries empty
	row           state.Row
	deliveries    []state.Delivery
}

// phase returns the phase of the row, but Refused for a promised message that is not in
// delivery any more, if it was tried or some of its sinks have it.
func (e *explanation) phase() state.Phase {
	open, landed := false, false
	for _, d := range e.deliveries {
		open, landed = open || d.Open, landed || d.Landed != 0
	}
	if e.row.Phase == state.Promised && !open && (landed || e.row.Tries > 0) {
		return state.Refused
	}
	return e.row.Phase
}

// timelineEntry is one thing that happened to a message.
type timelineEntry struct {
	at   int64 // in Unix seconds; 0 if unknown
	text string
}

// write writes the timeline of a message and its outlook.
func (e *explanation) write(out io.Writer, now time.Time) {
	if !e.found {
		fmt.Fprintf(out, "%s: nothing is remembered of a message %q.\n", e.account, clean(e.query))
		fmt.Fprintln(out, "If it is on the server, it was never seen, or was forgotten since, and the next fetch takes it.")
		return
	}
	fmt.Fprintf(out, "%s: message %s (%s)\n", e.account, displayUID(e.row.UID), size(e.row.Size))
	for _, entry := range e.timeline() {
		fmt.Fprintf(out, "  %s  %s\n", localTime(entry.at), clean(entry.text))
	}
	for _, sentence := range e.outlook(now) {
		fmt.Fprintln(out, clean(sentence))
	}
}

// localTime formats a time in Unix seconds.
func localTime(unix int64) string { return time.Unix(unix, 0).Format(time.DateTime) }

// timeline returns what happened to the message and is known by its time, oldest first.
func (e *explanation) timeline() []timelineEntry {
	first := "first seen"
	if e.row.Phase == state.Adopted {
		first = "adopted: it was on the server when all mail there was marked as seen"
	}
	all := []timelineEntry{{e.row.Seen, first}}
	for _, d := range e.deliveries {
		all = append(all, timelineEntry{d.Promised, "promised to " + d.Sink})
		if d.Landed != 0 {
			all = append(all, timelineEntry{d.Landed, fmt.Sprintf("landed in %s: %s", d.Sink, tilde(d.Where))})
		}
	}
	switch {
	case e.row.Phase == state.Deleted:
		all = append(all, timelineEntry{e.row.Deleted, "deleted from the server, which confirmed it"})
	case e.row.Deleted != 0:
		all = append(all, timelineEntry{e.row.Deleted, "the server was asked to delete it, and did not confirm that"})
	}
	if e.row.Missing != 0 && e.row.Missing != e.row.Deleted {
		all = append(all, timelineEntry{e.row.Missing, "no longer seen on the server"})
	}
	all = slices.DeleteFunc(all, func(entry timelineEntry) bool { return entry.at == 0 })
	slices.SortStableFunc(all, func(a, b timelineEntry) int { return cmp.Compare(a.at, b.at) })
	return all
}

// outlook returns sentences on how the message stands and what happens to it next.
func (e *explanation) outlook(now time.Time) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, d := range e.deliveries {
		switch {
		case d.Open:
			say("It is on its way to %s: a fetch is under way, or was cut off and the next one settles it.", d.Sink)
		case d.Landed == 0:
			say("The sink %s did not take it.", d.Sink)
		}
	}
	if e.row.Reason != "" {
		all = append(all, e.refusalSentences(now)...)
	}
	switch {
	case e.accountConfig == nil:
		say("The account is not in the configuration: nothing is fetched or deleted.")
	case e.row.Missing != 0 || e.row.Phase == state.Deleted:
	case e.row.Phase == state.Landed:
		say("%s", e.keepSentence(now))
	case e.row.Phase == state.Adopted:
		say("It stays on the server, whatever keep says: it is never fetched and never deleted.")
	case e.phase() == state.Refused:
		say("It stays on the server.")
	}
	if until := e.forgottenAt(); until != 0 {
		say("It is remembered until %s, unless the server lists it again.", localTime(until))
	}
	return all
}

// refusalSentences returns sentences on why the message was refused and when it is tried again.
func (e *explanation) refusalSentences(now time.Time) []string {
	verb := "Refused"
	if e.row.Phase == state.Promised && e.row.Tries == 0 {
		verb = "Not delivered"
	}
	reason, tried := verb+": "+strings.TrimSuffix(e.row.Reason, ".")+".", count(e.row.Tries, "time")
	switch {
	case e.row.Tries == 0: // none counts, or mailhaul state retry has reset them
		return []string{reason, "The next fetch tries it again."}
	case e.row.NextTry == 0: // never begun: its listed size was over max_size
		return []string{reason, "It is fetched once max_size allows it."}
	case e.row.NextTry > now.Unix():
		return []string{reason, fmt.Sprintf("Tried %s, next try %s.", tried, localTime(e.row.NextTry))}
	default:
		return []string{reason, fmt.Sprintf("Tried %s, and again by the next fetch.", tried)}
	}
}

// keepSentence says how long a landed message stays on the server.
func (e *explanation) keepSentence(now time.Time) string {
	until, limited := e.keptUntil()
	switch {
	case !limited:
		return "It stays on the server (keep: forever)."
	case e.row.Landed > e.accountConfig.Keep.Due(now):
		return fmt.Sprintf("It stays on the server until %s; the first fetch after that deletes it.", localTime(until))
	default:
		return "It is due to be deleted from the server: the next fetch does it."
	}
}

// keptUntil returns until when the account keeps the landed message on the server, in
// Unix seconds. limited is false for keep: forever.
func (e *explanation) keptUntil() (until int64, limited bool) {
	if e.accountConfig.Keep.Forever {
		return 0, false
	}
	return time.Unix(e.row.Landed, 0).Add(e.accountConfig.Keep.For).Unix(), true
}

// forgottenAt returns when the state forgets the message unless the server lists it again,
// in Unix seconds; 0 if it is neither deleted nor missing there.
func (e *explanation) forgottenAt() int64 {
	gone := max(e.row.Missing, e.row.Deleted)
	if gone == 0 {
		return 0
	}
	return time.Unix(gone, 0).Add(fetch.Remembered).Unix()
}

// explanationJSON is what explain --json writes. Times are null also if unknown.
type explanationJSON struct {
	Account    string         `json:"account"`
	UID        string         `json:"uid"`   // empty if the server gives none
	Name       string         `json:"name"`  // the UID argument that finds it
	Phase      string         `json:"phase"` // promised, landed, deleted, refused, adopted or unknown
	Octets     int64          `json:"bytes"`
	Seen       *time.Time     `json:"seen"`
	Deliveries []deliveryJSON `json:"deliveries"`
	Landed     *time.Time     `json:"landed"` // in all sinks
	KeptUntil  *time.Time     `json:"kept_until"`
	Deleted    *time.Time     `json:"deleted"`
	Missing    *time.Time     `json:"missing"`
	Forgotten  *time.Time     `json:"forgotten"` // in the future
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

func (e *explanation) writeJSON(out io.Writer) error {
	r := e.row
	j := explanationJSON{
		Account: e.account, UID: jsonUID(r.UID), Name: displayUID(r.UID), Phase: e.phase().String(), Octets: r.Size,
		Seen: jsonTime(r.Seen), Deliveries: []deliveryJSON{}, Landed: jsonTime(r.Landed),
		Missing: jsonTime(r.Missing), Forgotten: jsonTime(e.forgottenAt()), Reason: r.Reason, Tries: r.Tries, NextTry: jsonTime(r.NextTry),
	}
	if !e.found {
		j.UID, j.Name = e.query, e.query
	}
	if r.Phase == state.Deleted {
		j.Deleted = jsonTime(r.Deleted)
	}
	if r.Phase == state.Landed && r.Missing == 0 && e.accountConfig != nil {
		if until, limited := e.keptUntil(); limited {
			j.KeptUntil = jsonTime(until)
		}
	}
	for _, d := range e.deliveries {
		status := "withdrawn"
		switch {
		case d.Open:
			status = "open"
		case d.Landed != 0:
			status = "landed"
		}
		j.Deliveries = append(j.Deliveries, deliveryJSON{d.Sink, status, d.Where, jsonTime(d.Promised), jsonTime(d.Landed)})
	}
	return writeJSON(out, j)
}
