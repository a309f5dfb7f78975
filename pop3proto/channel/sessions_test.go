package channel_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailhaul/mailhaul/pop3proto/channel"
	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// resumes connects and reports whether a session was resumed.
func resumes(t *testing.T, s *server, trust channel.Trust, sessions *channel.Sessions) bool {
	t.Helper()
	cs, err := connect(t, s.addr, trust.Config(s.addr, sessions))
	check(t, err)
	return cs.DidResume
}

// readDir returns the files of a directory by name.
func readDir(t *testing.T, dir string) map[string]fs.FileInfo {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	all := map[string]fs.FileInfo{}
	for _, e := range entries {
		if all[e.Name()], err = e.Info(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestSessions(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := startServer(t, pop3test.CertOptions{}, func(c *tls.Config) { c.MaxVersion = version })
		trust := channel.Trust{CAs: []*x509.Certificate{s.cert}}
		dir := filepath.Join(t.TempDir(), "tls")

		sessions := channel.NewSessions(dir)
		for i, want := range []bool{false, true, true} {
			if got := resumes(t, s, trust, sessions); got != want {
				t.Errorf("%s: connection %d resumed: %v", tls.VersionName(version), i, got)
			}
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("written before Save: %v", err)
		}
		sessions.Save()

		// The next run. Sessions before TLS 1.3 must not be written to a file.
		sessions = channel.NewSessions(dir)
		if got, want := resumes(t, s, trust, sessions), version == tls.VersionTLS13; got != want {
			t.Errorf("%s: the next run resumed: %v", tls.VersionName(version), got)
		}
		sessions.Save()
		if version != tls.VersionTLS13 {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: a session was written: %v", tls.VersionName(version), err)
			}
			continue
		}
		before := readDir(t, dir)
		sessions.Save()
		channel.NewSessions(dir).Save()
		for name, info := range readDir(t, dir) {
			if !os.SameFile(before[name], info) {
				t.Errorf("%s was written without a change", name)
			}
		}
		for name, info := range before {
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", name, info.Mode())
			}
		}
		if len(before) != 1 {
			t.Errorf("%d files for one server", len(before))
		}
	}
}

// TestSessionsByTrust checks that a session is resumed only with the same Trust, and never
// with a client certificate.
func TestSessionsByTrust(t *testing.T) {
	s := startServer(t, pop3test.CertOptions{}, nil)
	other := startServer(t, pop3test.CertOptions{}, nil)
	pins := channel.PinsOf(s.cert)
	dir := t.TempDir()
	sessions := channel.NewSessions(dir)
	all := []channel.Trust{
		{CAs: []*x509.Certificate{s.cert}},
		{CAs: []*x509.Certificate{s.cert, other.cert}},
		{CAs: []*x509.Certificate{s.cert}, Name: "localhost"},
		{CAs: []*x509.Certificate{s.cert}, MinVersion: tls.VersionTLS13},
		{Pins: pins[:1]},
		{Pins: pins[1:]},
		{Pins: pins},
	}
	for i, trust := range all {
		if resumes(t, s, trust, sessions) {
			t.Errorf("trust %d: resumed the session of another", i)
		}
	}
	for i, trust := range all {
		if !resumes(t, s, trust, sessions) {
			t.Errorf("trust %d: did not resume its own", i)
		}
	}
	for _, wrong := range []channel.Trust{{}, {CAs: []*x509.Certificate{other.cert}}, {Pins: channel.PinsOf(other.cert)}} {
		if cs, err := connect(t, s.addr, wrong.Config(s.addr, sessions)); err == nil {
			t.Errorf("%+v: connected, resumed %v", wrong, cs.DidResume)
		}
	}

	clientCert, _, err := pop3test.SelfSigned("me")
	check(t, err)
	for range 2 {
		if resumes(t, s, channel.Trust{CAs: []*x509.Certificate{s.cert}, Certificate: &clientCert}, sessions) {
			t.Error("with a client certificate: resumed")
		}
	}
	sessions.Save()
	if n := len(readDir(t, dir)); n != len(all) {
		t.Errorf("%d files of %d sessions", n, len(all))
	}
}

// TestSessionsEnforcePins checks that pins are verified also when a session is resumed.
func TestSessionsEnforcePins(t *testing.T) {
	s := startServer(t, pop3test.CertOptions{}, nil)
	sessions := channel.NewSessions(t.TempDir())
	right := channel.Trust{Pins: channel.PinsOf(s.cert)}.Config(s.addr, sessions)
	wrong := channel.Trust{Pins: make([]channel.Pin, 1)}.Config(s.addr, nil)
	wrong.ClientSessionCache = right.ClientSessionCache
	_, err := connect(t, s.addr, right)
	check(t, err)
	if _, err = connect(t, s.addr, wrong); err == nil {
		t.Error("the pins were not verified")
	} else if _, ok := errors.AsType[*channel.PinError](err); !ok {
		t.Error(err)
	}
}

// TestSessionsExpire checks that a session is not resumed after the server's certificate has
// expired.
func TestSessionsExpire(t *testing.T) {
	s := startServer(t, pop3test.CertOptions{}, nil)
	c := channel.Trust{CAs: []*x509.Certificate{s.cert}}.Config(s.addr, channel.NewSessions(t.TempDir()))
	_, err := connect(t, s.addr, c)
	check(t, err)
	c.Time = func() time.Time { return s.cert.NotAfter.Add(time.Second) }
	if cs, err := connect(t, s.addr, c); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("resumed %v, %v", cs.DidResume, err)
	}
}

// TestSessionsBroken checks that a damaged file, or a missing directory, only means that no
// session is resumed.
func TestSessionsBroken(t *testing.T) {
	s := startServer(t, pop3test.CertOptions{}, nil)
	trust := channel.Trust{CAs: []*x509.Certificate{s.cert}}
	dir := t.TempDir()
	sessions := channel.NewSessions(dir)
	resumes(t, s, trust, sessions)
	sessions.Save()
	var path string
	for name := range readDir(t, dir) {
		path = filepath.Join(dir, name)
	}
	good, err := os.ReadFile(path)
	check(t, err)
	for name, damage := range map[string]func() error{
		"truncated": func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"too short": func() error { return os.WriteFile(path, good[:3], 0o600) },
		"nonsense":  func() error { return os.WriteFile(path, []byte(strings.Repeat("nonsense", 20)), 0o600) },
		"a length":  func() error { return os.WriteFile(path, append([]byte{255, 255, 255, 255}, good[4:]...), 0o600) },
		"too long":  func() error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"overwritten": func() error {
			return os.WriteFile(path, append(append([]byte{}, good[:40]...), make([]byte, len(good)-40)...), 0o600)
		},
		"a directory": func() error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) },
	} {
		check(t, damage())
		sessions := channel.NewSessions(dir)
		if resumes(t, s, trust, sessions) {
			t.Errorf("%s: resumed", name)
		}
		sessions.Save()
		check(t, os.RemoveAll(path))
	}

	nowhere := filepath.Join(dir, "not", "there")
	sessions = channel.NewSessions(nowhere)
	resumes(t, s, trust, sessions)
	sessions.Save()
	if _, err := os.Stat(filepath.Dir(nowhere)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the parent directory was created: %v", err)
	}
}

// TestSessionsRefused has a server that ends the connection when it is offered a session. It
// must not be offered one again, in this run and in the next.
func TestSessionsRefused(t *testing.T) {
	for name, end := range map[string]func(net.Conn){"an alert": func(net.Conn) {}, "a hang-up": func(c net.Conn) { c.Close() }} {
		refusing := false
		s := startServer(t, pop3test.CertOptions{}, func(c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				const presharedKey = 41 // RFC 8446 §4.2
				if refusing && slices.Contains(hello.Extensions, presharedKey) {
					end(hello.Conn)
					return nil, errors.New("session id context uninitialized")
				}
				return nil, nil
			}
		})
		trust := channel.Trust{CAs: []*x509.Certificate{s.cert}}
		dir := t.TempDir()
		sessions := channel.NewSessions(dir)
		resumes(t, s, trust, sessions)
		refusing = true
		// Two connections offer the session at once. Both must report a ResumeError.
		first, second := trust.Config(s.addr, sessions), trust.Config(s.addr, sessions)
		if _, offered := second.ClientSessionCache.Get(""); !offered {
			t.Fatalf("%s: no session is offered", name)
		}
		_, err := connect(t, s.addr, first)
		if _, ok := errors.AsType[*channel.ResumeError](err); !ok {
			t.Fatalf("%s: error %v, want a ResumeError", name, err)
		}
		if a, ok := channel.Advise(err); !ok || a.Person {
			t.Errorf("%s: %+v", name, a)
		}
		if _, ok := errors.AsType[*channel.ResumeError](channel.NotResumed(second, io.EOF)); !ok {
			t.Errorf("%s: no ResumeError for the second connection", name)
		}
		for range 2 {
			if resumes(t, s, trust, sessions) {
				t.Errorf("%s: resumed", name)
			}
		}
		sessions.Save()
		if resumes(t, s, trust, channel.NewSessions(dir)) {
			t.Errorf("%s: the next run resumed", name)
		}
	}
}

// TestSessionsRemoveOld checks that Save removes old files.
func TestSessionsRemoveOld(t *testing.T) {
	s := startServer(t, pop3test.CertOptions{}, nil)
	dir := t.TempDir()
	old := time.Now().Add(-60 * 24 * time.Hour)
	for _, name := range []string{"old", "young"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	check(t, os.Chtimes(filepath.Join(dir, "old"), old, old))
	sessions := channel.NewSessions(dir)
	resumes(t, s, channel.Trust{CAs: []*x509.Certificate{s.cert}}, sessions)
	sessions.Save()
	if left := readDir(t, dir); left["old"] != nil || left["young"] == nil || len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := channel.ParseSession(data)
		if err == nil && state == nil {
			t.Error("neither a session nor an error")
		}
	})
}
