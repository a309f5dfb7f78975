package smtp_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/deliver"
)

// slowly dials connections that are read a few octets at a time.
func slowly(octets int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return slowConn{conn, octets}, err
	}
}

type slowConn struct {
	net.Conn
	octets int
}

func (c slowConn) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(len(p), c.octets)]) }

// A reply may be a code and nothing else, wherever a read of it ends (RFC 5321
// §4.2).
func TestReplyWithoutText(t *testing.T) {
	bare := map[string]string{
		"greeting": "220", "MAIL": "250", "RCPT": "250", "DATA": "354", "message": "250", "RSET": "250", "QUIT": "221",
		"EHLO": "250-here\r\n250-SIZE 1000\r\n250", "LHLO": "250-here\r\n250-SIZE 1000\r\n250",
	}
	for _, lmtp := range []bool{false, true} {
		for _, octets := range []int{1, 2, 3, 4, 5, 1000} {
			srv := &scripted{lmtp: lmtp, reply: func(_ int, verb, line string) string {
				if strings.Contains(line, "refused@") {
					return "550"
				}
				return bare[verb]
			}}
			script(t, srv)
			opts := options(t, srv.addr)
			opts.LMTP, opts.Server.Dial = lmtp, slowly(octets)
			s := newSink(t, opts)
			large := "Subject: x\r\n\r\n" + strings.Repeat("x", 1000)
			o := send(t, t.Context(), s, "", body(0), large, body(2))
			o.wantLanded(t, 0, 2)
			wantError(t, o.receipts[1].Err, deliver.FaultMessage, "SIZE is 1000")
			o = send(t, t.Context(), s, "refused@example.org", body(3), body(4))
			o.wantLanded(t)
			wantError(t, o.receipts[0].Err, deliver.FaultMessage, "MAIL: 550")
			srv.wantBodies(t, body(0), body(2))
			srv.wantSessions(t, 1)
		}
	}
}

// Any reply of 2yz is one of success (RFC 5321 §4.3.2), be it to a command or to a
// message, which must not be sent again for it.
func TestAnySuccess(t *testing.T) {
	// go-smtp's buffer of 4,096 octets ends within the end of this one.
	long := "Subject: x\r\n\r\n" + strings.Repeat("RCPT\r\n", 680)
	for _, reply := range []string{"200 fine", "251-it is\r\n251 forwarded", "252", "299 2.0.0 fine"} {
		for _, verb := range []string{"EHLO", "LHLO", "MAIL", "RSET", "message"} {
			for _, lmtp := range []bool{false, true} {
				srv := &scripted{lmtp: lmtp, reply: func(_ int, v, line string) string {
					if strings.HasPrefix(line, "MAIL FROM:<refused@") {
						return "550 no" // so that there is a RSET
					}
					if v == verb {
						return reply
					}
					return ""
				}}
				script(t, srv)
				opts := options(t, srv.addr)
				opts.LMTP = lmtp
				s := newSink(t, opts)
				send(t, t.Context(), s, "refused@example.org", body(0)).wantLanded(t)
				send(t, t.Context(), s, "", body(1), body(2), long).wantLanded(t, 0, 1, 2)
				srv.wantBodies(t, body(1), body(2), long)
				srv.wantSessions(t, 1)
			}
		}
	}
}

// What begins with a code and is none is not made one.
func TestNotAReply(t *testing.T) {
	for _, reply := range []string{"250\rfine", "25", "2500", "250\x00", "x250"} {
		srv := &scripted{reply: always("MAIL", "", reply)}
		script(t, srv)
		o := send(t, t.Context(), newSink(t, options(t, srv.addr)), "", body(0))
		o.wantLanded(t)
		wantError(t, o.receipts[0].Err, deliver.FaultTemporary)
	}
}

// The keywords of extensions are in any case (RFC 5321 §2.4), and what else the
// server says is given on as it is.
func TestExtensionsInLowerCase(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		srv := &scripted{lmtp: lmtp, extensions: []string{"size 1000", "8BitMIME", "smtpUTF8", "auth plain Login"}}
		srv.reply = on(map[string]string{"message": "250 ok Queued"})
		script(t, srv)
		opts := options(t, srv.addr)
		opts.LMTP, opts.Server.User, opts.Server.Secret = lmtp, "me", secret
		opts.Server.Dial = slowly(3)
		opts.To = []string{"mé@example.org"}
		opts.Server.Auth = []string{"plain"}
		large := "Subject: x\r\n\r\n" + strings.Repeat("x", 1000)
		o := send(t, t.Context(), newSink(t, opts), "", large, body(1))
		o.wantLanded(t, 1)
		wantError(t, o.receipts[0].Err, deliver.FaultMessage, "SIZE is 1000")
		if where := o.receipts[1].Where; !strings.HasSuffix(where, `"ok Queued"`) {
			t.Errorf("where: %s", where)
		}
		if said := srv.said("MAIL"); !slices.Equal(said, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=25 SMTPUTF8"}) {
			t.Errorf("said %q", said)
		}
	}
}

// A server of SMTP that is spoken to as one of LMTP would take HELO, and then the
// message, as often as it is sent.
func TestNotLMTP(t *testing.T) {
	for reply, told := range map[string]string{
		"502 5.5.2 unknown":       `502 "5.5.2 unknown"`,
		"500-what\r\n500 unknown": `500 "unknown"`,
		"500":                     `500 ""`,
	} {
		srv := &scripted{reply: always("LHLO", "", reply)}
		script(t, srv)
		opts := options(t, srv.addr)
		opts.LMTP = true
		_, err := newSink(t, opts).Begin(t.Context())
		wantError(t, err, deliver.FaultOperator, "LHLO: "+told)
		wantHint(t, err, "SMTP where the sink has lmtp")
		if said := srv.said("HELO"); len(said) > 0 {
			t.Errorf("said %q", said)
		}
	}
}

// A message may begin as that command does.
func TestNoHELO(t *testing.T) {
	srv := &scripted{lmtp: true}
	script(t, srv)
	opts := options(t, srv.addr)
	opts.LMTP, opts.To = true, []string{"a@example.org"}
	send(t, t.Context(), newSink(t, opts), "", "HELO there\r\n").wantLanded(t, 0)
	srv.wantBodies(t, "HELO there\r\n")
}
