package main

import (
	"github.com/rs/zerolog"

	"github.com/mailhaul/mailhaul/cmd/mailhaul/internal/oneline"
	"github.com/mailhaul/mailhaul/fetch"
)

// jsonReporter writes a line of JSON for each account, warning and refused message, and
// with verbose one for each event.
type jsonReporter struct{ log zerolog.Logger }

func newJSONReporter(std stdio, verbose bool) jsonReporter {
	level := zerolog.InfoLevel
	if verbose {
		level = zerolog.DebugLevel
	}
	return jsonReporter{zerolog.New(zerolog.SyncWriter(oneline.JSON(std.err))).Level(level).With().Timestamp().Logger()}
}

func (j jsonReporter) note(text string) { j.log.Info().Msg(text) }
func (j jsonReporter) warn(text string) { j.log.Warn().Msg(text) }

// total writes nothing: a program can add up the accounts itself.
func (j jsonReporter) total([]fetch.Summary) {}

func (j jsonReporter) observe(e fetch.Event) {
	switch e := e.(type) {
	case fetch.Connected:
		ev := j.log.Debug().Str("account", e.Account).Str("addr", e.Addr)
		if e.State != nil {
			ev.Str("tls", describeTLS(e.State))
		}
		ev.Msg("connected")
	case fetch.LoggedIn:
		j.log.Debug().Str("account", e.Account).Str("mechanism", e.Mechanism).Msg("logged in")
	case fetch.Planned:
		j.log.Debug().Str("account", e.Account).Int("listed", e.Listed).Int64("bytes", e.Octets).
			Int("fetch", e.Fetch).Int64("fetch_bytes", e.FetchOctets).Int("delete", e.Delete).Msg("planned")
	case fetch.Landed:
		j.log.Debug().Str("account", e.Account).Str("uid", e.UID).Str("sink", e.Sink).
			Str("where", e.Where).Int64("bytes", e.Octets).Msg("landed")
	case fetch.Refused:
		ev := j.log.Warn().Str("account", e.Account).Str("uid", e.UID).Str("reason", e.Reason)
		if !e.NextTry.IsZero() {
			ev.Time("next_try", e.NextTry)
		}
		if e.Quarantine != "" {
			ev.Str("quarantine", e.Quarantine)
		}
		ev.Msg("refused")
	case fetch.Noticed:
		j.log.Debug().Str("account", e.Account).Str("text", e.Text).Msg("noticed")
	case fetch.Warned:
		j.log.Warn().Str("account", e.Account).Msg(e.Text)
	case fetch.Finished:
		j.logFinished(e.Summary)
	}
}

// logFinished writes the line of a poll that has ended.
func (j jsonReporter) logFinished(s fetch.Summary) {
	ev := j.log.Info()
	switch s.Class {
	case fetch.ClassFine:
	case fetch.ClassRefused, fetch.ClassRetry:
		ev = j.log.Warn()
	default:
		ev = j.log.Error()
	}
	result := s.Class.String()
	if s.Skipped {
		result = "skipped"
	}
	toDelete := s.ToDelete
	if s.Would != nil {
		toDelete = s.Would.Delete
	}
	ev.Str("account", s.Account).Str("result", result).
		Int("listed", s.Listed).Int("fetched", s.Fetched).Int64("bytes", s.Octets).
		Int("deleted", s.Deleted).Int("restored", s.Restored).
		Int("quarantined", s.Quarantined).Int("dropped", s.Dropped).Int("to_delete", toDelete).
		Int("refused", s.Refused).Int("too_large", s.TooLarge).Int("unfetched", s.Unfetched).
		Dur("took_ms", s.Ended.Sub(s.Started))
	if w := s.Would; w != nil {
		ev.Bool("dry_run", true).Int("to_fetch", w.Fetch).Int64("to_fetch_bytes", w.FetchOctets).
			Bool("delete_fetched", w.DeleteFetched).Int("open", w.Open)
	}
	if s.NotDeleted != nil {
		ev.Str("not_deleted", s.NotDeleted.Error())
	}
	if s.Err != nil {
		ev.Str("error", s.Err.Error())
		if hint := fetch.Hint(s.Err); hint != "" {
			ev.Str("hint", hint)
		}
	}
	ev.Msg("polled")
}
