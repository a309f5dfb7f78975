package pop3proto_test

import (
	"errors"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// judge is a mechanism with an opinion on how the exchange ended.
type judge struct {
	replies
	told    []error
	verdict func(reply error) error
}

func (j *judge) Done(reply error) error {
	j.told = append(j.told, reply)
	return j.verdict(reply)
}

// TestAuthenticateDone sees that a mechanism is asked what to make of the
// server's last word, and what comes of its answer.
func TestAuthenticateDone(t *testing.T) {
	errUnproven := errors.New("unproven")
	refusal := &pop3proto.ReplyError{}
	for name, test := range map[string]struct {
		last    string
		verdict func(error) error
		want    error
		broken  bool
	}{
		"accepted":             {"+OK", func(err error) error { return err }, nil, false},
		"accepted, not proven": {"+OK", func(error) error { return errUnproven }, errUnproven, true},
		"refused":              {"-ERR no", func(err error) error { return err }, refusal, false},
		"refused, explained":   {"-ERR no", func(err error) error { return errors.Join(errUnproven, err) }, refusal, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &judge{replies: replies{name: "X", say: []string{"a"}}, verdict: test.verdict}
			c, _ := play(t, nil, "+ YQ==\r\n", test.last+"\r\n", "+OK\r\n")
			err := c.Authenticate(t.Context(), m)
			if !errors.Is(err, test.want) && !as(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if len(m.told) != 1 || (m.told[0] == nil) != (test.last == "+OK") {
				t.Errorf("the mechanism was told %v", m.told)
			}
			if test.broken {
				wantBroken(t, c, err, test.want)
			} else if err := c.Noop(t.Context()); err != nil {
				t.Errorf("the session did not go on: %v", err)
			}
		})
	}
}

// TestAuthenticateDoneIsForReplies sees that a mechanism which gave up, or
// whose connection is lost, has no say.
func TestAuthenticateDoneIsForReplies(t *testing.T) {
	for name, replies := range map[string][]string{
		"gave up": {"+ YQ==\r\n", "-ERR cancelled\r\n"},
		"cut":     {"+ YQ==\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &judge{verdict: func(error) error { return nil }}
			m.name, m.fail = "X", errors.New("no")
			c, _ := play(t, nil, replies...)
			if err := c.Authenticate(t.Context(), m); err == nil || len(m.told) > 0 {
				t.Errorf("error %v, the mechanism was told %v", err, m.told)
			}
		})
	}
}

// TestAuthenticateCancelled sees that a mechanism's reason to cancel is told
// whatever the server makes of that.
func TestAuthenticateCancelled(t *testing.T) {
	errNo := errors.New("no")
	for name, replies := range map[string][]string{
		"accepted": {"+ YQ==\r\n", "+OK\r\n"},
		"asked on": {"+ YQ==\r\n", "+ YQ==\r\n"},
		"hung up":  {"+ YQ==\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &judge{verdict: func(error) error { return nil }}
			m.name, m.fail = "X", errNo
			c, _ := play(t, nil, replies...)
			if err := c.Authenticate(t.Context(), m); !errors.Is(err, errNo) {
				t.Errorf("error %v", err)
			} else {
				wantBroken(t, c, err, nil)
			}
		})
	}
}
