package pop3proto_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/mailhaul/mailhaul/pop3proto"
	"github.com/mailhaul/mailhaul/pop3proto/mech"
)

// scriptedMech is a mechanism whose responses do not depend on the challenges.
type scriptedMech struct {
	name       string
	initial    []byte
	responses  []string
	fail       error // returned after the last response
	challenges []string
}

func (m *scriptedMech) Start() (string, []byte, error) { return m.name, m.initial, nil }

func (m *scriptedMech) Next(challenge []byte) ([]byte, error) {
	m.challenges = append(m.challenges, string(challenge))
	if len(m.responses) == 0 {
		return nil, m.fail
	}
	next := m.responses[0]
	m.responses = m.responses[1:]
	return []byte(next), nil
}

// loginMech returns the mechanism LOGIN.
func loginMech(t *testing.T) sasl.Client {
	c, err := mech.New(t.Context(), "login", mech.Credentials{User: "joe", Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAuthenticate runs the examples of RFC 5034 §6, and edge cases.
func TestAuthenticate(t *testing.T) {
	errMech := errors.New("no")
	long := strings.Repeat("x", 255)
	for name, test := range map[string]struct {
		mech       sasl.Client
		transcript string
		want       error // ErrBroken, errMech, *ReplyError or *ProtocolError
	}{
		"initial response": {sasl.NewPlainClient("test", "test", "test"), `
C: AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=
S: +OK Maildrop locked and ready`, nil},
		"empty initial response": {&scriptedMech{name: "EXTERNAL", initial: []byte{}}, `
C: AUTH EXTERNAL =
S: +OK`, nil},
		"no initial response": {&scriptedMech{name: "CRAM-MD5", responses: []string{"fred 9e95aee09c40af2b84a0c2b3bbae786e"}}, `
C: AUTH CRAM-MD5
S: + PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+
C: ZnJlZCA5ZTk1YWVlMDljNDBhZjJiODRhMGMyYjNiYmFlNzg2ZQ==
S: +OK`, nil},
		"initial response too long": {&scriptedMech{name: "PLAIN", initial: []byte(strings.Repeat("x", 255))}, `
C: AUTH PLAIN
S: +
C: ` + strings.Repeat("eHh4", 85) + `
S: +OK`, nil},
		// AUTH PLAIN, a blank, 240 octets of base64 and CRLF are 253.
		"initial response just short enough": {&scriptedMech{name: "PLAIN", initial: []byte(long[:180])}, `
C: AUTH PLAIN ` + strings.Repeat("eHh4", 60) + `
S: +OK`, nil},
		"empty response": {&scriptedMech{name: "X", responses: []string{""}}, `
C: AUTH X
S: + YQ==
C:
S: +OK`, nil},
		"challenges that are not base64": {loginMech(t), `
C: AUTH LOGIN
S: +OK Username?
C: am9l
S: + your password, please
C: cHc=
S: +OK`, nil},
		"challenges without a blank": {loginMech(t), `
C: AUTH LOGIN
S: +VXNlcm5hbWU6
C: am9l
S: +
C: cHc=
S: -ERR no`, &pop3proto.ReplyError{}},
		"a challenge too many": {loginMech(t), `
C: AUTH LOGIN
S: +OK
C: am9l
S: +OK
C: cHc=
S: + again
C: *
S: -ERR cancelled
C: NOOP
S: +OK`, &pop3proto.ProtocolError{}},
		"a long response to +OK": {&scriptedMech{name: "PLAIN", initial: []byte(long)}, `
C: AUTH PLAIN
S: +OK
C: ` + strings.Repeat("eHh4", 85) + `
S: +OK`, nil},
		"refused": {sasl.NewPlainClient("", "a", "b"), `
C: AUTH PLAIN AGEAYg==
S: -ERR [AUTH] no`, &pop3proto.ReplyError{}},
		"mechanism gives up": {&scriptedMech{name: "X", fail: errMech}, `
C: AUTH X
S: + YQ==
C: *
S: -ERR cancelled
C: NOOP
S: +OK`, errMech},
		"bad base64": {&scriptedMech{name: "X"}, `
C: AUTH X
S: + !!
C: *
S: -ERR cancelled
C: NOOP
S: +OK`, &pop3proto.ProtocolError{}},
		"cancel is not understood": {&scriptedMech{name: "X", fail: errMech}, `
C: AUTH X
S: + YQ==
C: *
S: +OK`, pop3proto.ErrBroken},
		"no reply": {&scriptedMech{name: "X"}, `
C: AUTH X
S: hello`, pop3proto.ErrBroken},
		"endless challenges": {&scriptedMech{name: "X", responses: slices.Repeat([]string{"a"}, 1000)}, `
C: AUTH X
` + strings.Repeat("S: + YQ==\nC: YQ==\n", 16), pop3proto.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTranscriptClient(t, "S: +OK ready\n"+strings.TrimSpace(test.transcript), nil)
			err := c.Authenticate(t.Context(), test.mech)
			if !errors.Is(err, test.want) && !hasType(err, test.want) {
				t.Errorf("error %v, want %v (%T)", err, test.want, test.want)
			}
			if !strings.HasSuffix(test.transcript, "C: NOOP\nS: +OK") {
				return
			}
			if err := c.Noop(t.Context()); err != nil {
				t.Errorf("the session did not go on: %v", err)
			}
		})
	}
}

func TestAuthenticateChallenges(t *testing.T) {
	mech := &scriptedMech{name: "LOGIN", responses: []string{"joe", "pw"}}
	c, conn := newClient(t, nil, "+ VXNlcm5hbWU6\r\n", "+ UGFzc3dvcmQ6\r\n", "+OK\r\n")
	if err := c.Authenticate(t.Context(), mech); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(mech.challenges, []string{"Username:", "Password:"}) {
		t.Errorf("challenges %q", mech.challenges)
	}
	if want := []string{"AUTH LOGIN\r\n", "am9l\r\n", "cHc=\r\n"}; !slices.Equal(conn.writes, want) {
		t.Errorf("sent %q", conn.writes)
	}
}

// TestArguments checks that an argument cannot contain a second command.
func TestArguments(t *testing.T) {
	c, conn := newClient(t, nil)
	for _, bad := range []string{"a\rb", "a\nDELE 1", "a\x00b"} {
		if c.Login(t.Context(), bad, "pw") == nil || c.Login(t.Context(), "joe", bad) == nil ||
			c.APOP(t.Context(), bad, "pw") == nil || c.APOP(t.Context(), "joe", bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if c.Authenticate(t.Context(), &scriptedMech{name: "X\r\nDELE 1"}) == nil {
		t.Error("a bad mechanism name was accepted")
	}
	if len(conn.writes) > 0 {
		t.Errorf("sent %q", conn.writes)
	}
}

func TestTimestamp(t *testing.T) {
	for greeting, want := range map[string]string{
		"POP3 server ready <1896.697170952@dbc.mtview.ca.us>": "<1896.697170952@dbc.mtview.ca.us>",
		"<1.2@x> ready":         "<1.2@x>",
		"<hello> ready <1.2@x>": "<1.2@x>",
		"ready <<1.2@x>":        "<1.2@x>",
		"ready":                 "",
		"ready <>":              "",
		"ready <@>":             "",
		"ready <a@>":            "",
		"ready <@b>":            "",
		"ready <a@b@c>":         "",
		"ready <a b@c>":         "",
		"ready <a@b":            "",
		"ready <a\x80@b>":       "",
		"ready <a\x01@b>":       "",
		`ready <"a"@b>`:         "",
	} {
		c, err := pop3proto.NewClient(t.Context(), &scriptConn{src: strings.NewReader("+OK " + greeting + "\r\n")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := c.Timestamp()
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", greeting, got, ok)
		}
		if err := c.APOP(t.Context(), "joe", "pw"); want == "" && (err == nil || errors.Is(err, pop3proto.ErrBroken)) {
			t.Errorf("%q: APOP: error %v", greeting, err)
		}
	}
}

// doneMech is a mechanism with a Done method.
type doneMech struct {
	scriptedMech
	replies []error // passed to Done
	done    func(reply error) error
}

func (m *doneMech) Done(reply error) error {
	m.replies = append(m.replies, reply)
	return m.done(reply)
}

// TestAuthenticateDone checks that Done is called with the final reply, and that its
// result is returned.
func TestAuthenticateDone(t *testing.T) {
	errUnproven := errors.New("unproven")
	refusal := &pop3proto.ReplyError{}
	for name, test := range map[string]struct {
		final  string
		done   func(error) error
		want   error
		broken bool
	}{
		"accepted":             {"+OK", func(err error) error { return err }, nil, false},
		"accepted, not proven": {"+OK", func(error) error { return errUnproven }, errUnproven, true},
		"refused":              {"-ERR no", func(err error) error { return err }, refusal, false},
		"refused, explained":   {"-ERR no", func(err error) error { return errors.Join(errUnproven, err) }, refusal, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := &doneMech{scriptedMech: scriptedMech{name: "X", responses: []string{"a"}}, done: test.done}
			c, _ := newClient(t, nil, "+ YQ==\r\n", test.final+"\r\n", "+OK\r\n")
			err := c.Authenticate(t.Context(), m)
			if !errors.Is(err, test.want) && !hasType(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if len(m.replies) != 1 || (m.replies[0] == nil) != (test.final == "+OK") {
				t.Errorf("Done was called with %v", m.replies)
			}
			if test.broken {
				wantBroken(t, c, err, test.want)
			} else if err := c.Noop(t.Context()); err != nil {
				t.Errorf("the session did not go on: %v", err)
			}
		})
	}
}

// TestAuthenticateDoneNotCalled checks that Done is not called if the mechanism has failed
// or the connection is lost.
func TestAuthenticateDoneNotCalled(t *testing.T) {
	for name, replies := range map[string][]string{
		"failed": {"+ YQ==\r\n", "-ERR cancelled\r\n"},
		"cut":    {"+ YQ==\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &doneMech{done: func(error) error { return nil }}
			m.name, m.fail = "X", errors.New("no")
			c, _ := newClient(t, nil, replies...)
			if err := c.Authenticate(t.Context(), m); err == nil || len(m.replies) > 0 {
				t.Errorf("error %v, Done was called with %v", err, m.replies)
			}
		})
	}
}

// TestAuthenticateCancelled checks that the mechanism's error is returned whatever the
// server replies to the cancellation.
func TestAuthenticateCancelled(t *testing.T) {
	errNo := errors.New("no")
	for name, replies := range map[string][]string{
		"accepted":   {"+ YQ==\r\n", "+OK\r\n"},
		"challenged": {"+ YQ==\r\n", "+ YQ==\r\n"},
		"hung up":    {"+ YQ==\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &doneMech{done: func(error) error { return nil }}
			m.name, m.fail = "X", errNo
			c, _ := newClient(t, nil, replies...)
			if err := c.Authenticate(t.Context(), m); !errors.Is(err, errNo) {
				t.Errorf("error %v", err)
			} else {
				wantBroken(t, c, err, nil)
			}
		})
	}
}
