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

// KPOP starts a proxy that authenticates clients with Kerberos before it connects them to
// the POP3 server at backend, and returns its address. It uses krb5_recvauth of MIT's
// library with a key of keytab. onLogin, if not nil, is called with the principal of each
// authenticated client. The proxy runs until the test ends. Without a C compiler and MIT's
// headers the test ends as in Program.
func KPOP(tb testing.TB, r *Realm, keytab, backend string, onLogin func(principal string)) (addr string) {
	tb.Helper()
	program := compileRecvauth(tb)
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
				return // closed at the end of the test
			}
			running.Go(func() {
				defer conn.Close()
				principal, err := authenticate(program, env, conn.(*net.TCPConn))
				if err != nil {
					tb.Logf("recvauth: %v", err)
					return
				}
				if onLogin != nil {
					onLogin(principal)
				}
				proxy(conn, backend)
			})
		}
	})
	return l.Addr().String()
}

// authenticate runs recvauth on a connection and returns the client's principal.
func authenticate(program string, env []string, conn *net.TCPConn) (string, error) {
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

// proxy connects a client with the server at backend until one of them hangs up.
func proxy(client net.Conn, backend string) {
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client) // ends when one of the connections is closed
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// compileRecvauth compiles testdata/recvauth.c and returns the path of the program.
func compileRecvauth(tb testing.TB) string {
	tb.Helper()
	cc := Program(tb, "gcc")
	if _, err := os.Stat("/usr/include/krb5.h"); err != nil {
		skipMissing(tb, "libkrb5-dev")
	}
	program := tb.TempDir() + "/recvauth"
	cmd := exec.Command(cc, "-Wall", "-Werror", "-o", program, "-x", "c", "-", "-lkrb5")
	cmd.Stdin = bytes.NewReader(recvauthSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("cannot compile recvauth: %v\n%s", err, out)
	}
	return program
}
