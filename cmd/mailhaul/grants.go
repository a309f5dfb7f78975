package main

import (
	"fmt"
	"io"
	"time"

	"github.com/mailhaul/mailhaul/fetch/oauth"
)

// describeGrant describes a grant in a line. The warning, unless it is empty, tells when
// the grant ends or has ended. name is what mailhaul login takes.
func describeGrant(g oauth.Grant, name string, now time.Time) (text, warning string) {
	text = fmt.Sprintf("%s gave access %s, last refreshed %s", g.Provider, ago(g.Granted.Unix(), now), ago(g.Refreshed.Unix(), now))
	if end := g.Expires; !end.IsZero() {
		warning = fmt.Sprintf("it ends in %s; before then run mailhaul login %s", span(end.Sub(now)), name)
		if !end.After(now) {
			warning = fmt.Sprintf("it ended %s; run mailhaul login %s", ago(end.Unix(), now), name)
		}
	}
	return text, warning
}

// writeGrants describes the grants of logins by OAuth. If there are many, it only counts
// those that are well, so that those who need a login stand out.
func writeGrants(out io.Writer, logins []serverLogin, grants *oauth.Store, now time.Time) {
	const many = 20
	well := 0
	for _, l := range logins {
		g, err := grants.Load(l.oauthClient())
		text, warning := describeGrant(g, l.name, now)
		if err != nil {
			text, warning = err.Error(), oauthHint(err)
		} else if warning == "" && len(logins) > many {
			well++
			continue
		}
		fmt.Fprintf(out, "\n%s: %s\n", l.name, text)
		if warning != "" {
			fmt.Fprintf(out, "  %s\n", warning)
		}
	}
	if well > 0 {
		fmt.Fprintf(out, "\n%d of %d that log in by OAuth have access\n", well, len(logins))
	}
}

// reportGrant adds the grant of a login by OAuth to the checklist.
func (l *checklist) reportGrant(login serverLogin, grants *oauth.Store, now time.Time) {
	if login.OAuth == nil {
		return
	}
	g, err := grants.Load(login.oauthClient())
	if err != nil {
		l.fail(err.Error(), oauthHint(err))
		return
	}
	text, warning := describeGrant(g, login.name, now)
	l.pass("%s", text)
	if warning != "" {
		l.detail("%s", l.paint(yellow, warning))
	}
}
