package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// testDeadline bounds the wait for what must happen.
const testDeadline = time.Minute

// servers is the key of a script's POP3 servers, which are values by name.
type servers struct{}

// popserver is a POP3 server of a script.
type popserver struct {
	*pop3test.Server
	// held receives when a command has come that the server holds; resume has it go on.
	held, resume chan struct{}
}

// startServer is popserver NAME SPEC: it starts a server as the file SPEC
// says, one order a line:
//
//	user NAME                   an account; its password is $PASSWORD
//	mail USER COUNT             add so many messages
//
// text USER FILE              add a message from a file of the script
// large USER BYTES            add a message of that size
//
//	tls implicit                speak TLS from the first byte
//
// cert HOST [expired|soon]    TLS with a certificate for HOST
//
//	clients                     ask for client certificates
//	mechanisms WORD…            the mechanisms of AUTH
//
// without WORD…               capabilities that it lacks
// after CAPABILITY            one more line of CAPA after the login
//
//	timestamp <A@B>             offer APOP
//	refuse VERB TEXT            answer -ERR TEXT
//	nameless USER               add a message without a unique-id
//	poison USER TEXT            add a message that RETR answers with -ERR TEXT
//
// hang VERB                   do not answer
//
//	hold VERB                   wait for the command release
//
// $NAME is then its host:port, $NAME_port the port, NAME.pem its certificate,
// and $NAME_fingerprint the SHA-256 of that, $NAME_key that of its key.
func startServer(ts *testscript.TestScript, _ bool, args []string) {
	name, spec := args[0], ts.ReadFile(args[1])
	s := &popserver{held: make(chan struct{}, 16), resume: make(chan struct{})}
	opts := pop3test.Options{}
	var implicit bool
	var later []func()
	for line := range strings.Lines(spec) {
		word := strings.Fields(line)
		if len(word) == 0 {
			continue
		}
		rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), word[0]))
		switch word[0] {
		case "tls":
			implicit = true
		case "cert":
			opts.TLS = certificate(ts, name, word[1:])
		case "clients":
			opts.TLS.ClientAuth = tls.RequestClientCert
		case "mechanisms":
			opts.Behaviour.Mechanisms = word[1:]
		case "without":
			opts.Behaviour.Without = word[1:]
		case "after":
			opts.Behaviour.CapabilitiesAfter = append(opts.Behaviour.CapabilitiesAfter, rest)
		case "timestamp":
			opts.Behaviour.Timestamp = word[1]
		default:
			later = append(later, func() { s.order(ts, word, rest) })
		}
	}
	s.Server = pop3test.New(opts)
	for _, do := range later {
		do()
	}
	start := s.Start
	if implicit {
		start = s.StartTLS
	}
	ts.Check(start())
	ts.Defer(func() { s.Close() })
	if ca := s.CA(); ca != nil {
		ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), ca, 0o644))
	}
	block, _ := pem.Decode([]byte(ts.ReadFile(name + ".pem")))
	cert, err := x509.ParseCertificate(block.Bytes)
	ts.Check(err)
	pins := channel.PinsOf(cert)
	ts.Setenv(name+"_fingerprint", pins[0].String())
	ts.Setenv(name+"_key", pins[1].String())
	ts.Setenv(name, s.Addr())
	_, port, err := net.SplitHostPort(s.Addr())
	ts.Check(err)
	ts.Setenv(name+"_port", port)
	serversOf(ts)[name] = s
}

// order carries out an order that needs the server.
func (s *popserver) order(ts *testscript.TestScript, word []string, rest string) {
	verb := word[1]
	if verb == "greeting" {
		verb = pop3test.Greeting
	}
	switch word[0] {
	case "user":
		s.Account(word[1], password)
	case "mail":
		n, err := strconv.Atoi(word[2])
		ts.Check(err)
		for i := range n {
			s.Account(word[1], password).Add(fmt.Sprintf("%s-%d", word[1], i),
				fmt.Appendf(nil, "From: a@example.com\nSubject: %d\n\nHello %s.\n", i, word[1]))
		}
	case "text":
		s.Account(word[1], password).Add(word[1]+"-"+word[2], []byte(ts.ReadFile(word[2])))
	case "large":
		n, err := strconv.Atoi(word[2])
		ts.Check(err)
		s.Account(word[1], password).Add(word[1]+"-large", []byte("Subject: large\n\n"+strings.Repeat("x", n)+"\n"))
	case "nameless":
		s.Account(word[1], password).Add("", []byte("Message-ID: <1@example.com>\n\nHello.\n"))
	case "poison":
		s.Account(word[1], password).Add(word[1]+"-poison", []byte("Subject: poison\n\n"))
		s.Order(pop3test.ReplyErr("RETR", strings.Join(word[2:], " ")).UID(word[1] + "-poison"))
	case "refuse":
		s.Order(pop3test.ReplyErr(verb, strings.TrimSpace(strings.TrimPrefix(rest, word[1]))))
	case "hang":
		s.Order(pop3test.Ignore(verb, pop3test.Hang))
	case "hold":
		s.Order(pop3test.On(verb, func(x *pop3test.Exchange) {
			x.Act()
			s.held <- struct{}{}
			x.Wait(s.resume)
		}))
	default:
		ts.Fatalf("unknown order %q", word[0])
	}
}

// order SERVER ORDER… gives a server that runs an order of startServer.
func order(ts *testscript.TestScript, _ bool, args []string) {
	serversOf(ts)[args[0]].order(ts, args[1:], strings.Join(args[2:], " "))
}

// certificate makes a certificate for a host, and writes its authority to NAME.pem.
func certificate(ts *testscript.TestScript, name string, args []string) *tls.Config {
	opts := pop3test.CertOptions{Hosts: args[:1]}
	if len(args) > 1 {
		opts.NotBefore = time.Now().Add(-48 * time.Hour)
		opts.NotAfter = map[string]time.Time{
			"expired": time.Now().Add(-24 * time.Hour), "soon": time.Now().Add(5 * 24 * time.Hour),
		}[args[1]]
	}
	cert, ca, err := pop3test.Certificate(opts)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(name+".pem"), ca, 0o644))
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// serversOf returns the POP3 servers of a script.
func serversOf(ts *testscript.TestScript) map[string]*popserver {
	return ts.Value(servers{}).(map[string]*popserver)
}

// left SERVER USER N checks that N messages are in a maildrop.
func left(ts *testscript.TestScript, _ bool, args []string) {
	m := serversOf(ts)[args[0]].Account(args[1], password)
	ts.Check(m.Wait(deadline(ts)))
	if got := strconv.Itoa(len(m.Messages())); got != args[2] {
		ts.Fatalf("%s has %s messages, want %s", args[1], got, args[2])
	}
}

// sessions SERVER N checks that there were N connections to a server.
func sessions(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(serversOf(ts)[args[0]].Sessions()); got != args[1] {
		ts.Fatalf("%s connections, want %s", got, args[1])
	}
}

// reached SERVER waits until the server holds a command.
func reached(ts *testscript.TestScript, _ bool, args []string) {
	select {
	case <-serversOf(ts)[args[0]].held:
	case <-deadline(ts).Done():
		ts.Fatalf("the command did not come")
	}
}

// release SERVER lets the held command go on, and all later ones.
func release(ts *testscript.TestScript, _ bool, args []string) {
	close(serversOf(ts)[args[0]].resume)
}
