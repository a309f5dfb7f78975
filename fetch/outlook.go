package fetch

import (
	"context"
)

// Outlook is what a poll would do with the messages of a maildrop.
type Outlook struct {
	// Listed messages are on the server, Octets of them.
	Listed int
	Octets int64
	// Fetch of them, FetchOctets, would be downloaded, and Delete be deleted
	// without a download.
	Fetch, Delete int
	FetchOctets   int64
	// DeleteFetched is set if what is downloaded would be deleted as soon as it has
	// landed.
	DeleteFetched bool
	// Kept messages would stay on the server for later, Waiting ones until their pause
	// is over, Open ones until their sink has said what became of them, and TooLarge ones
	// for good. So would Unclear ones, because nothing tells them from others.
	Kept, Waiting, Open, TooLarge, Unclear int
}

// survey is the beginning of a session that changes nothing: it connects, logs in, lists
// and plans. Messages that a poll would settle first count as Plan.Open.
func (s *session) survey(ctx context.Context) error {
	s.readOnly = true
	open, err := s.opts.State.Promises(ctx, s.Name)
	if err != nil {
		return err
	}
	s.openKeys = map[string]bool{}
	for _, p := range open {
		s.openKeys[p.UID] = true
	}
	standing, err := s.opts.State.Standing(ctx, s.Name)
	if err != nil {
		return err
	}
	s.otherMaildrop = s.changedMaildrop(&standing)
	// Rows that are of no known maildrop have to be doubted first, by a poll.
	s.unrecordedMaildrop = standing.Maildrop == ""
	err = s.connectAndPlan(ctx)
	// What makes a poll connect again, does so here.
	again := s.listing == nil && s.server.settleForFirstCAPA(err)
	if dropsPipelinedCommands(err) && !s.noPipelining {
		again, s.noPipelining = true, true
	}
	if again {
		s.close()
		err = s.connectAndPlan(ctx)
	}
	return err
}

// connectAndPlan is one attempt of survey.
func (s *session) connectAndPlan(ctx context.Context) error {
	if err := s.connectAndLogIn(ctx); err != nil {
		return err
	}
	return s.listAndPlan(ctx)
}

// outlook sums up the plan, for all sessions that a poll would need.
func (s *session) outlook() Outlook {
	p := s.planned()
	return Outlook{
		Listed: p.Listed, Octets: p.Octets, Fetch: p.Fetch + p.More, FetchOctets: p.FetchOctets + p.MoreOctets,
		Delete: p.Delete, DeleteFetched: p.Fetch+p.More > 0 && s.due(s.opts.now().Unix()),
		Kept: s.plan.Kept, Waiting: s.plan.Waiting, Open: s.plan.Open, TooLarge: s.tooLarge(), Unclear: s.countLeftAlone(),
	}
}

// countLeftAlone counts the listed messages that a poll would leave alone because nothing
// tells them from others.
func (s *session) countLeftAlone() int {
	p := &s.plan
	return len(s.listing.Entries) - len(p.Fetch) - len(p.Compare) - p.More - len(p.Delete) - p.Kept - p.Waiting - p.Open - len(p.Large)
}
