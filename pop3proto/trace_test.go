package pop3proto_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"github.com/mailhaul/mailhaul/pop3proto"
)

// traceLog is a Tracer that keeps all lines.
type traceLog struct{ bytes.Buffer }

func (l *traceLog) Trace(dir pop3proto.Direction, line string) { fmt.Fprintf(l, "%v: %s\n", dir, line) }

// TestTrace checks that traces and errors contain no secrets, even if the server echoes
// them, and no message bodies.
func TestTrace(t *testing.T) {
	var trace traceLog
	c, _ := newClient(t, &pop3proto.Options{Trace: &trace},
		"+OK\r\n", "-ERR unknown command PASS open sesame\r\n",
		"-ERR bad AUTH PLAIN AGpvZQBvcGVuIHNlc2FtZQ==\r\n",
		"+ VXNlcm5hbWU6\r\n", "+ UGFzc3dvcmQ6\r\n", "+OK\r\n",
		"+OK\r\nprivate\r\n.\r\n",
		"open sesame\r\n")
	ctx := t.Context()
	err := c.Login(ctx, "joe", "open sesame")
	if err == nil || err.Error() != `server refused PASS: "unknown command PASS ***"` {
		t.Errorf("error %v", err)
	}
	if err := c.Authenticate(ctx, sasl.NewPlainClient("", "joe", "open sesame")); err == nil || strings.Contains(err.Error(), "AGpv") {
		t.Errorf("error %v", err)
	}
	if err := c.Authenticate(ctx, &scriptedMech{name: "LOGIN", responses: []string{"joe", "open sesame"}}); err != nil {
		t.Error(err)
	}
	if _, err := retrieve(ctx, c, 1); err != nil {
		t.Error(err)
	}
	if err := c.Login(ctx, "joe", "open sesame"); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("error %v contains a secret sent earlier", err)
	}
	want := `S: +OK ready
C: USER joe
S: +OK
C: PASS ***
S: -ERR unknown command PASS ***
C: AUTH PLAIN ***
S: -ERR bad AUTH PLAIN ***
C: AUTH LOGIN
S: + VXNlcm5hbWU6
C: ***
S: + UGFzc3dvcmQ6
C: ***
S: +OK
C: RETR 1
S: +OK
S: (9 octets)
C: USER joe
S: ***
`
	if trace.String() != want {
		t.Errorf("trace\n%s\nwant\n%s", trace.String(), want)
	}
}

// TestTraceOfCutBody checks that a truncated body is traced once.
func TestTraceOfCutBody(t *testing.T) {
	var trace traceLog
	c, _ := newClient(t, &pop3proto.Options{Trace: &trace}, "+OK\r\nabc\r\n")
	for m := range c.Retrieve(t.Context(), numberedEntries(1)) {
		io.Copy(io.Discard, m)
	}
	if n := strings.Count(trace.String(), "5 octets"); n != 1 {
		t.Errorf("traced %d times:\n%s", n, trace.String())
	}
}

// TestSecretInLongLine checks that an error has no part of a secret, even if the quoted
// line is truncated in the middle of it.
func TestSecretInLongLine(t *testing.T) {
	const secret = "open sesame"
	for n := 60; n < 100; n++ {
		c, _ := newClient(t, nil, "+OK\r\n", strings.Repeat("x", n)+secret+"\r\n")
		if err := c.Login(t.Context(), "joe", secret); err == nil || strings.Contains(err.Error(), "xo") {
			t.Errorf("error %v", err)
		}
	}
}

// TestSecretAsResponseCode checks that a secret is masked in a response code.
func TestSecretAsResponseCode(t *testing.T) {
	c, _ := newPipeliningClient(t, nil, "+OK\r\n", "-ERR [open-sesame] is wrong\r\n")
	if err := c.Login(t.Context(), "joe", "open-sesame"); err == nil || err.Error() != `server refused PASS [***]: "is wrong"` {
		t.Errorf("error %v", err)
	}
}
