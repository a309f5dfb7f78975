package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
	"github.com/mailhaul/mailhaul/pop3proto/channel/channeltest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mailhaul": main, "mailhaul-crashing": mainWithPanic, "mailhaul-dns": mailhaulWithDNS, "xdg-open": browser, "connect": connect})
}

// password is the password of every account in the scripts. No output may contain it.
const password = "hunter2"

// TestScripts runs the scripts in testdata. They run this test binary as mailhaul, against
// servers in the process of the test.
func TestScripts(t *testing.T) {
	// Under nohup SIGHUP is ignored, which programs inherit. If it is caught here, they
	// start with the default, as from a shell.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PASSWORD", password)
			env.Values[servers{}] = map[string]*popserver{}
			env.Values[mailservers{}] = map[string]*mailserver{}
			env.Values[proxies{}] = map[string]*channeltest.SOCKS{}
			env.Values[providers{}] = map[string]*oauthtest.Server{}
			env.Values[holds{}] = map[string]heldToken{}
			env.Defer(func() { noSecrets(env) })
			return os.Chmod(env.WorkDir, 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":         exits,
			"config":        expand,
			"mails":         mails,
			"lock":          lock,
			"popserver":     startServer,
			"proxy":         startProxy,
			"proxied":       proxied,
			"clientcert":    makeCertificate,
			"oauthprovider": startProvider,
			"provider":      orderProvider,
			"browse":        browse,
			"mailserver":    startMailserver,
			"arrived":       arrived,
			"left":          left,
			"sessions":      sessions,
			"reached":       reached,
			"appears":       appears,
			"private":       private,
			"page":          page,
			"manager":       manager,
			"release":       release,
			"order":         order,
			"signal":        sendSignal,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// noSecrets fails the script if the password, or a secret of OAuth, is in a file that is
// not meant to hold it.
func noSecrets(env *testscript.Env) {
	secrets := secretsOf(env.Values[providers{}])
	err := filepath.WalkDir(env.WorkDir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".password") || isGrant(path) {
			return err
		}
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				env.T().Log("a secret is in " + path)
				env.T().FailNow()
			}
		}
		return err
	})
	if err != nil {
		env.T().Log(err)
		env.T().FailNow()
	}
}

// exits CODE PROGRAM ARG… runs a program, which must end with that code and print no
// secret.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	out, errs := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	for _, secret := range secretsOf(ts.Value(providers{})) {
		if strings.Contains(out+errs, secret) {
			ts.Fatalf("a secret was printed")
		}
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// expand is config FILE…: it replaces ${VARIABLES} in files, and lets only their owner
// read them.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, arg := range args {
		path := ts.MkAbs(arg)
		text := os.Expand(ts.ReadFile(arg), ts.Getenv)
		ts.Check(os.WriteFile(path, []byte(text), 0o600))
		ts.Check(os.Chmod(path, 0o600))
	}
}

// mails DIR N checks that the Maildir DIR has N new messages, and none in tmp.
func mails(ts *testscript.TestScript, _ bool, args []string) {
	for _, sub := range []struct {
		name, want string
	}{{"new", args[1]}, {"tmp", "0"}} {
		entries, err := os.ReadDir(filepath.Join(ts.MkAbs(args[0]), sub.name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if got := strconv.Itoa(len(entries)); got != sub.want {
			ts.Fatalf("%s/%s has %s messages, want %s", args[0], sub.name, got, sub.want)
		}
	}
}

// lock FILE holds an fcntl lock on a file until the script ends, as a mail reader does.
func lock(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR|os.O_CREATE, 0o600)
	ts.Check(err)
	ts.Defer(func() { f.Close() })
	ts.Check(unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
}

// private FILE checks that only its owner may read a file.
func private(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if perm := info.Mode().Perm(); perm != 0o600 {
		ts.Fatalf("%s has mode %v", args[0], perm)
	}
}

// appears FILE TEXT waits until a running program has written TEXT to FILE.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	ctx := deadline(ts)
	for ctx.Err() == nil {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && strings.Contains(string(text), args[1]) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	ts.Fatalf("%q did not appear in %s", args[1], args[0])
}

// sendSignal is signal NAME FILE: it sends a signal to the process whose number is in a
// file.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	number := unix.SignalNum("SIG" + args[0])
	if number == 0 || pid <= 1 {
		ts.Fatalf("usage: signal NAME FILE")
	}
	ts.Check(unix.Kill(pid, number))
}

// deadline returns a context for what must happen at once. A test that is still waiting at
// its end fails.
func deadline(ts *testscript.TestScript) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	ts.Defer(cancel)
	return ctx
}
