package servertest

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
)

//go:embed testdata/recvauth.c
var recvauthSource []byte

// KPOP puts krb5_recvauth of MIT's library, with the key of a keytab, before
// the POP3 server at backend, and returns the address of both. Whoever passes
// goes through to the server; passed, if not nil, is told the principal. It
// runs until the test ends. Without a C compiler and MIT's headers the test is
// skipped, or fails where servers are required.
func KPOP(tb testing.TB, r *Realm, keytab, backend string, passed func(principal string)) (addr string) {
	tb.Helper()
	program := recvauth(tb)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	tb.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	env := append(slices.Clone(r.Env), "KRB5_KTNAME="+keytab)
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			running.Go(func() {
				defer conn.Close()
				principal, err := accept(program, env, conn.(*net.TCPConn))
				if err != nil {
					tb.Logf("recvauth: %v", err)
					return
				}
				if passed != nil {
					passed(principal)
				}
				splice(conn, backend)
			})
		}
	})
	return l.Addr().String()
}

// accept runs recvauth on a connection and returns the client's principal.
func accept(program string, env []string, conn *net.TCPConn) (string, error) {
	f, err := conn.File()
	if err != nil {
		return "", err
	}
	defer f.Close()
	var out, errs bytes.Buffer
	cmd := exec.Command(program)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, f, &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, errs.String())
	}
	return out.String(), nil
}

// splice connects a client with a server until either hangs up.
func splice(client net.Conn, backend string) {
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client) // ends with either connection
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// recvauth compiles the program.
func recvauth(tb testing.TB) string {
	tb.Helper()
	cc := Program(tb, "gcc")
	if _, err := os.Stat("/usr/include/krb5.h"); err != nil {
		missing(tb, "libkrb5-dev")
	}
	program := tb.TempDir() + "/recvauth"
	cmd := exec.Command(cc, "-Wall", "-Werror", "-o", program, "-x", "c", "-", "-lkrb5")
	cmd.Stdin = bytes.NewReader(recvauthSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("cannot compile recvauth: %v\n%s", err, out)
	}
	return program
}
