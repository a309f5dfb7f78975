package fetch_test

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
	"github.com/mailhaul/mailhaul/fetch"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// recordRecipients returns a sink that appends, for each message, the recipients that it
// was given for it.
func recordRecipients(sink deliver.Sink, recipients *[][]string) deliver.Sink {
	return hooked(sink, hooks{
		stage: func(ctx context.Context, b deliver.Batch, mail deliver.Mail, body io.Reader) (deliver.Ticket, error) {
			*recipients = append(*recipients, mail.Recipients)
			return b.Stage(ctx, mail, body)
		},
	})
}

// Each message goes to the sinks of the recipients in its header, or to the default sinks.
// The sinks are told of the recipients that they were chosen by.
func TestRouteByRecipient(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	ada, adas := r.newMaildir("ada")
	bob, bobs := r.newMaildir("bob")
	rest, rests := r.newMaildir("rest")
	var bobsRecipients, restsRecipients [][]string
	bob.Sink = recordRecipients(bob.Sink, &bobsRecipients)
	rest.Sink = recordRecipients(rest.Sink, &restsRecipients)
	r.account.Route = &fetch.Route{
		Headers: []string{"X-Envelope-To", "Delivered-To", "X-Original-To"},
		Map: map[string][]fetch.Target{
			"ada":               {ada},
			"bob@example.org":   {bob},
			"@bobs.example.net": {bob},
			"both@example.org":  {ada, bob},
			"@example.net":      {bob},
		},
		Domains: []string{"example.org", "example.net"},
	}
	r.account.Deliver = []fetch.Target{rest}
	tests := []struct{ name, header, sinks string }{
		{"local part", "Delivered-To: Ada@Example.ORG\n", "ada"},
		{"address, in the first header", "X-Original-To: bob@example.org\nDelivered-To: ada@example.org\n", "bob"},
		{"domain", "X-Envelope-To: <any@bobs.example.net>\n", "bob"},
		{"two recipients", "X-Envelope-To: ada@example.org, <bob@example.org>\n", "ada bob"},
		{"a recipient with two sinks", "Delivered-To: both@example.org\n", "ada bob"},
		{"two recipients with a sink in common", "Delivered-To: ada@example.org, both@example.org\n", "ada bob"},
		{"a domain that is not ours", "Delivered-To: ada@example.com\n", "rest"},
		{"no recipient", "To: ada@example.org\nCc: bob@example.org\n", "rest"},
		{"forged below Received", "Delivered-To: stranger@example.org\nReceived: from x\nX-Envelope-To: bob@example.org\n", "rest"},
		{"forged in the body", "\nDelivered-To: ada@example.org\n", "rest"},
		{"a recipient without a sink, too", "Delivered-To: ada@example.org, stranger@example.org\n", "ada rest"},
		{"no domain", "Delivered-To: ada\n", "ada"},
		{"local part before domain", "Delivered-To: ada@example.net\n", "ada"},
		{"quoted", "Delivered-To: \"x@y\"@bobs.example.net\n", "bob"},
		{"no sink", "Delivered-To: stranger@Example.ORG\n", "rest"},
		{"no sink, quoted", "Delivered-To: \"x@y\"@example.org\n", "rest"},
	}
	want := map[string][]string{}
	for _, test := range tests {
		r.drop.Add(test.name, []byte(test.header+"\n"+test.name+"\n"))
		for _, sink := range strings.Fields(test.sinks) {
			want[sink] = append(want[sink], test.name)
		}
	}
	if s := r.mustPoll(); s.Fetched != len(tests) || len(r.left()) != 0 {
		t.Errorf("fetched %d, left %q", s.Fetched, r.left())
	}
	for sink, mail := range map[string][]string{"ada": adas(), "bob": bobs(), "rest": rests()} {
		var got []string
		for _, m := range mail {
			lines := strings.Split(strings.TrimSuffix(m, "\n"), "\n")
			got = append(got, lines[len(lines)-1])
		}
		slices.Sort(got)
		expectMail(t, sink, got, want[sink]...)
	}

	for _, to := range bobsRecipients {
		if len(to) != 1 {
			t.Errorf("bob's sink got mail for %q", to)
		}
	}
	ours := map[string]bool{"stranger@example.org": true, "stranger@Example.ORG": true, `"x@y"@example.org`: true}
	missing := maps.Clone(ours)
	for _, to := range restsRecipients {
		if len(to) > 1 || len(to) == 1 && !ours[to[0]] {
			t.Errorf("the default sink was told of %q, who may be anybody", to)
		}
		if len(to) == 1 {
			delete(missing, to[0])
		}
	}
	if len(missing) > 0 {
		t.Errorf("the default sink was not told of %q", slices.Collect(maps.Keys(missing)))
	}
}

// A broken sink of one recipient holds up nobody else's mail.
func TestRouteToBrokenSink(t *testing.T) {
	ada, _ := newRig(t, pop3test.Behaviour{}).newMaildir("ada")
	for name, sink := range map[string]deliver.Sink{"cannot begin": unusable{ada.Sink}, "cannot be swept": unsweepable{ada.Sink}} {
		t.Run(name, func(t *testing.T) { testRouteToBrokenSink(t, sink) })
	}
}

func testRouteToBrokenSink(t *testing.T, broken deliver.Sink) {
	r := newRig(t, pop3test.Behaviour{})
	ada, adas := r.newMaildir("ada")
	gone := fetch.Target{Name: "gone", Sink: broken}
	r.account.Route = &fetch.Route{
		Headers: []string{"Delivered-To"},
		Map:     map[string][]fetch.Target{"ada@example.org": {ada}, "bob@example.org": {gone}},
	}
	r.drop.Add("b", []byte("Delivered-To: bob@example.org\n\n1\n"))
	r.drop.Add("a", []byte("Delivered-To: ada@example.org\n\n2\n"))
	if s := r.poll(); s.Class != fetch.ClassOperator || s.Fetched != 1 || s.Refused != 1 {
		t.Errorf("%v, fetched %d: %v", s.Class, s.Fetched, s.Err)
	}
	expectMail(t, "ada", adas(), "Delivered-To: ada@example.org\n\n2\n")
	if rows := r.rows(); len(rows) != 2 || rows[1].UID != "b" || !strings.Contains(rows[1].Reason, "it is not there") {
		t.Errorf("remembered: %+v", rows)
	}
	if got := r.left(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("left %q", got)
	}
}
