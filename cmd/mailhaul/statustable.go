package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/fetch/state"
)

// resultWord is the result of a poll in a table.
type resultWord struct{ word, colour string }

// resultWords has the results by the names that the state database has for them.
var resultWords = map[string]resultWord{
	fetch.ClassFine.String():     {"ok", green},
	fetch.ClassRefused.String():  {"refused", yellow},
	fetch.ClassRetry.String():    {"failed", yellow},
	fetch.ClassOperator.String(): {"FAILED", red},
	fetch.ClassMachine.String():  {"FAILED", red},
}

// history is what is remembered of an account's polls.
type history struct {
	polls []state.Poll // the last historyPolls, the latest first
	days  []state.Day  // those of the last historyDays that have polls
}

const (
	historyPolls = 10
	historyDays  = 30
)

func readHistory(ctx context.Context, store *state.Store, account string, now time.Time) (h history, err error) {
	if h.polls, err = store.Polls(ctx, account, historyPolls); err == nil {
		h.days, err = store.Days(ctx, account, state.DayOf(now)-historyDays+1)
	}
	return h, err
}

// writeStatus writes a table for a terminal of 80 columns, and below it all that went
// wrong. The column NEW has what the last poll fetched.
func writeStatus(out io.Writer, all []state.Status, now time.Time) {
	columns := []column{
		{title: "ACCOUNT"}, {title: "RESULT"}, {title: "SUCCESS"}, {title: "NEXT"},
		{title: "NEW", right: true}, {title: "KEPT", right: true}, {title: "TO DELETE", right: true}, {title: "REFUSED", right: true},
	}
	var rows [][]string
	for _, st := range all {
		result, fetched := resultWord{word: "-"}, 0
		if st.Last != nil {
			result, fetched = resultWords[st.Last.Result], st.Last.Fetched
		}
		columns[1].colours = append(columns[1].colours, result.colour)
		rows = append(rows, []string{
			collapseBlanks(st.Account), result.word, shortAgo(st.Schedule.LastSuccess, now), shortNextPoll(st.Schedule, now),
			fmt.Sprint(fetched), fmt.Sprint(st.Kept), fmt.Sprint(st.ToDelete), fmt.Sprint(len(st.Refused)),
		})
	}
	columns[0].maxWidth = max(8, remainingWidth(80, columnWidths(columns, rows)[1:]...))
	writeTable(out, columns, rows, nil)
	for _, st := range all {
		writeTrouble(out, st, now)
	}
}

// writeStatusSummary writes a line about several accounts: which are not well, and how
// old the oldest poll is, since an account is only as well as its last poll.
func writeStatusSummary(out io.Writer, all []state.Status, now time.Time) {
	if len(all) < 2 {
		return
	}
	var unwell, never []string
	oldest := int64(math.MaxInt64)
	for _, st := range all {
		if st.Last == nil {
			never = append(never, collapseBlanks(st.Account))
			continue
		}
		oldest = min(oldest, st.Last.Ended)
		if st.Last.Result != fetch.ClassFine.String() {
			unwell = append(unwell, collapseBlanks(st.Account))
		}
	}
	var parts []string
	if len(unwell) > 0 {
		parts = append(parts, fmt.Sprintf("%d not well: %s", len(unwell), listNames(unwell)))
	}
	if len(never) > 0 {
		parts = append(parts, fmt.Sprintf("%d never polled: %s", len(never), listNames(never)))
	}
	if len(parts) == 0 {
		parts = append(parts, "all well")
	}
	if len(never) < len(all) {
		parts = append(parts, "oldest poll "+ago(oldest, now))
	}
	fmt.Fprintf(out, "\n%s, %s\n", count(len(all), "account"), strings.Join(parts, "; "))
}

// shortAgo says how long ago t, in Unix seconds, was: "5m ago".
func shortAgo(t int64, now time.Time) string {
	if t == 0 {
		return "never"
	}
	return shortDuration(now.Sub(time.Unix(t, 0))) + " ago"
}

// shortNextPoll says when a daemon polls an account next, or the server accepts a login:
// "in 5m".
func shortNextPoll(s state.Schedule, now time.Time) string {
	next := time.Unix(max(s.Next, s.NotBefore), 0)
	if !next.After(now) {
		return "-"
	}
	return "in " + shortDuration(next.Sub(now))
}

// shortDuration returns a duration in one unit: "5m".
func shortDuration(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// writeHistory writes the last polls of an account, and how much mail arrived on each of
// the last days.
func writeHistory(out io.Writer, account string, h history, now time.Time) {
	if len(h.polls) == 0 {
		return
	}
	polls := "poll"
	if len(h.polls) > 1 {
		polls = count(len(h.polls), "poll")
	}
	fmt.Fprintf(out, "\n%s: the last %s\n", account, polls)
	writePollTable(out, h.polls)
	writeDays(out, h.days, now)
}

func writePollTable(out io.Writer, polls []state.Poll) {
	var rows [][]string
	var colours []string
	for _, p := range polls {
		result := resultWords[p.Result]
		colours = append(colours, result.colour)
		rows = append(rows, []string{
			"  " + time.Unix(p.Started, 0).Local().Format(time.DateTime), result.word,
			fmt.Sprint(p.Fetched), size(p.Octets), shortDuration(time.Duration(p.Ended-p.Started) * time.Second),
		})
	}
	writeTable(out, []column{
		{title: "  WHEN"}, {title: "RESULT", colours: colours},
		{title: "FETCHED", right: true}, {title: "SIZE", right: true}, {title: "TOOK", right: true},
	}, rows, nil)
}

// writeDays draws how many messages were fetched on each of the last historyDays, and
// writes their sum.
func writeDays(out io.Writer, days []state.Day, now time.Time) {
	perDay := make([]int, historyDays) // the last one is today
	var messages int
	var octets int64
	for _, d := range days {
		i := historyDays - 1 - int(state.DayOf(now)-d.Day)
		if i < 0 || i >= historyDays {
			continue
		}
		perDay[i] = d.Fetched
		messages += d.Fetched
		octets += d.Octets
	}
	fmt.Fprintf(out, "  %s  %s in %d days (%s), at most %d a day\n",
		sparkline(perDay), count(messages, "message"), historyDays, size(octets), slices.Max(perDay))
}

// sparkline draws numbers, of which there must be some, as a line of bars. Only a zero
// has the lowest bar.
func sparkline(numbers []int) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	most := max(1, slices.Max(numbers))
	var line strings.Builder
	for _, n := range numbers {
		line.WriteRune(levels[(n*(len(levels)-1)+most-1)/most]) // rounded up
	}
	return line.String()
}
