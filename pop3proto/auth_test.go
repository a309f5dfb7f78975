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

// replies is a mechanism that says the same to whatever challenges.
type replies struct {
	name    string
	initial []byte
	say     []string
	fail    error // when there is nothing more to say
	heard   []string
}

func (r *replies) Start() (string, []byte, error) { return r.name, r.initial, nil }

func (r *replies) Next(challenge []byte) ([]byte, error) {
	r.heard = append(r.heard, string(challenge))
	if len(r.say) == 0 {
		return nil, r.fail
	}
	next := r.say[0]
	r.say = r.say[1:]
	return []byte(next), nil
}

// login is the client side of LOGIN.
func login(t *testing.T) sasl.Client {
	c, err := mech.New(t.Context(), "login", mech.Credentials{User: "joe", Password: "pw"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAuthenticate are dialogues of RFC 5034 §6 and their edge cases.
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
		"empty initial response": {&replies{name: "EXTERNAL", initial: []byte{}}, `
C: AUTH EXTERNAL =
S: +OK`, nil},
		"no initial response": {&replies{name: "CRAM-MD5", say: []string{"fred 9e95aee09c40af2b84a0c2b3bbae786e"}}, `
C: AUTH CRAM-MD5
S: + PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+
C: ZnJlZCA5ZTk1YWVlMDljNDBhZjJiODRhMGMyYjNiYmFlNzg2ZQ==
S: +OK`, nil},
		"initial response too long": {&replies{name: "PLAIN", initial: []byte(strings.Repeat("x", 255))}, `
C: AUTH PLAIN
S: +
C: ` + strings.Repeat("eHh4", 85) + `
S: +OK`, nil},
		// AUTH PLAIN, a blank, 240 octets of base64 and CRLF are 253.
		"initial response just short enough": {&replies{name: "PLAIN", initial: []byte(long[:180])}, `
C: AUTH PLAIN ` + strings.Repeat("eHh4", 60) + `
S: +OK`, nil},
		"empty response": {&replies{name: "X", say: []string{""}}, `
C: AUTH X
S: + YQ==
C:
S: +OK`, nil},
		"questions that are none": {login(t), `
C: AUTH LOGIN
S: +OK Username?
C: am9l
S: + your password, please
C: cHc=
S: +OK`, nil},
		"questions without a blank": {login(t), `
C: AUTH LOGIN
S: +VXNlcm5hbWU6
C: am9l
S: +
C: cHc=
S: -ERR no`, &pop3proto.ReplyError{}},
		"a question too many": {login(t), `
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
		"a long response, asked for by +OK": {&replies{name: "PLAIN", initial: []byte(long)}, `
C: AUTH PLAIN
S: +OK
C: ` + strings.Repeat("eHh4", 85) + `
S: +OK`, nil},
		"refused": {sasl.NewPlainClient("", "a", "b"), `
C: AUTH PLAIN AGEAYg==
S: -ERR [AUTH] no`, &pop3proto.ReplyError{}},
		"mechanism gives up": {&replies{name: "X", fail: errMech}, `
C: AUTH X
S: + YQ==
C: *
S: -ERR cancelled
C: NOOP
S: +OK`, errMech},
		"bad base64": {&replies{name: "X"}, `
C: AUTH X
S: + !!
C: *
S: -ERR cancelled
C: NOOP
S: +OK`, &pop3proto.ProtocolError{}},
		"cancel is not understood": {&replies{name: "X", fail: errMech}, `
C: AUTH X
S: + YQ==
C: *
S: +OK`, pop3proto.ErrBroken},
		"no reply": {&replies{name: "X"}, `
C: AUTH X
S: hello`, pop3proto.ErrBroken},
		"endless challenges": {&replies{name: "X", say: slices.Repeat([]string{"a"}, 1000)}, `
C: AUTH X
` + strings.Repeat("S: + YQ==\nC: YQ==\n", 16), pop3proto.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			c := converse(t, "S: +OK ready\n"+strings.TrimSpace(test.transcript), nil)
			err := c.Authenticate(t.Context(), test.mech)
			if !errors.Is(err, test.want) && !as(err, test.want) {
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

func TestAuthenticateHearsChallenges(t *testing.T) {
	mech := &replies{name: "LOGIN", say: []string{"joe", "pw"}}
	c, conn := play(t, nil, "+ VXNlcm5hbWU6\r\n", "+ UGFzc3dvcmQ6\r\n", "+OK\r\n")
	if err := c.Authenticate(t.Context(), mech); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(mech.heard, []string{"Username:", "Password:"}) {
		t.Errorf("heard %q", mech.heard)
	}
	if want := []string{"AUTH LOGIN\r\n", "am9l\r\n", "cHc=\r\n"}; !slices.Equal(conn.writes, want) {
		t.Errorf("sent %q", conn.writes)
	}
}

// TestArguments checks that no argument can smuggle a command.
func TestArguments(t *testing.T) {
	c, conn := play(t, nil)
	for _, bad := range []string{"a\rb", "a\nDELE 1", "a\x00b"} {
		if c.Login(t.Context(), bad, "pw") == nil || c.Login(t.Context(), "joe", bad) == nil ||
			c.APOP(t.Context(), bad, "pw") == nil || c.APOP(t.Context(), "joe", bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if c.Authenticate(t.Context(), &replies{name: "X\r\nDELE 1"}) == nil {
		t.Error("a bad name of a mechanism was taken")
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
		c, err := pop3proto.NewClient(t.Context(), &tape{src: strings.NewReader("+OK " + greeting + "\r\n")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := c.Timestamp()
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", greeting, got, ok)
		}
		if err := c.APOP(t.Context(), "joe", "pw"); want == "" && (err == nil || errors.Is(err, pop3proto.ErrBroken)) {
			t.Errorf("%q: APOP went on: %v", greeting, err)
		}
	}
}
