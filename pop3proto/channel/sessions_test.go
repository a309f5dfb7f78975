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

// resumes connects and tells whether a session was taken up again.
func resumes(t *testing.T, s *server, trust channel.Trust, sessions *channel.Sessions) bool {
	t.Helper()
	cs, err := talk(t, s.addr, trust.Config(s.addr, sessions))
	check(t, err)
	return cs.DidResume
}

// files are those in a folder, by name.
func files(t *testing.T, dir string) map[string]fs.FileInfo {
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
		s := serve(t, pop3test.CertOptions{}, func(c *tls.Config) { c.MaxVersion = version })
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

		// The next run. What is before TLS 1.3 is not for a disk.
		sessions = channel.NewSessions(dir)
		if got, want := resumes(t, s, trust, sessions), version == tls.VersionTLS13; got != want {
			t.Errorf("%s: the next run resumed: %v", tls.VersionName(version), got)
		}
		sessions.Save()
		if version != tls.VersionTLS13 {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: written: %v", tls.VersionName(version), err)
			}
			continue
		}
		before := files(t, dir)
		sessions.Save()
		channel.NewSessions(dir).Save()
		for name, info := range files(t, dir) {
			if !os.SameFile(before[name], info) {
				t.Errorf("%s was written with nothing new", name)
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

// What changes whom we trust, or who we are, begins anew.
func TestSessionsByTrust(t *testing.T) {
	s := serve(t, pop3test.CertOptions{}, nil)
	other := serve(t, pop3test.CertOptions{}, nil)
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
			t.Errorf("trust %d: took up the session of another", i)
		}
	}
	for i, trust := range all {
		if !resumes(t, s, trust, sessions) {
			t.Errorf("trust %d: did not resume its own", i)
		}
	}
	for _, wrong := range []channel.Trust{{}, {CAs: []*x509.Certificate{other.cert}}, {Pins: channel.PinsOf(other.cert)}} {
		if cs, err := talk(t, s.addr, wrong.Config(s.addr, sessions)); err == nil {
			t.Errorf("%+v: connected, resumed %v", wrong, cs.DidResume)
		}
	}

	// Nothing stands for a client certificate.
	mine, _, err := pop3test.SelfSigned("me")
	check(t, err)
	for range 2 {
		if resumes(t, s, channel.Trust{CAs: []*x509.Certificate{s.cert}, Certificate: &mine}, sessions) {
			t.Error("with a client certificate: resumed")
		}
	}
	sessions.Save()
	if n := len(files(t, dir)); n != len(all) {
		t.Errorf("%d files of %d sessions", n, len(all))
	}
}

// A pin holds for a resumed session, whatever a cache gives out.
func TestSessionsEnforcePins(t *testing.T) {
	s := serve(t, pop3test.CertOptions{}, nil)
	sessions := channel.NewSessions(t.TempDir())
	right := channel.Trust{Pins: channel.PinsOf(s.cert)}.Config(s.addr, sessions)
	wrong := channel.Trust{Pins: make([]channel.Pin, 1)}.Config(s.addr, nil)
	wrong.ClientSessionCache = right.ClientSessionCache
	_, err := talk(t, s.addr, right)
	check(t, err)
	if _, err = talk(t, s.addr, wrong); err == nil {
		t.Error("a resumed session escaped the pins")
	} else if _, ok := errors.AsType[*channel.PinError](err); !ok {
		t.Error(err)
	}
}

// A certificate that has expired since is no longer good.
func TestSessionsExpire(t *testing.T) {
	s := serve(t, pop3test.CertOptions{}, nil)
	c := channel.Trust{CAs: []*x509.Certificate{s.cert}}.Config(s.addr, channel.NewSessions(t.TempDir()))
	_, err := talk(t, s.addr, c)
	check(t, err)
	c.Time = func() time.Time { return s.cert.NotAfter.Add(time.Second) }
	if cs, err := talk(t, s.addr, c); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("resumed %v, %v", cs.DidResume, err)
	}
}

// No file can do harm.
func TestSessionsBroken(t *testing.T) {
	s := serve(t, pop3test.CertOptions{}, nil)
	trust := channel.Trust{CAs: []*x509.Certificate{s.cert}}
	dir := t.TempDir()
	sessions := channel.NewSessions(dir)
	resumes(t, s, trust, sessions)
	sessions.Save()
	var path string
	for name := range files(t, dir) {
		path = filepath.Join(dir, name)
	}
	good, err := os.ReadFile(path)
	check(t, err)
	for what, spoil := range map[string]func() error{
		"cut":       func() error { return os.WriteFile(path, good[:len(good)/2], 0o600) },
		"too short": func() error { return os.WriteFile(path, good[:3], 0o600) },
		"nonsense":  func() error { return os.WriteFile(path, []byte(strings.Repeat("nonsense", 20)), 0o600) },
		"a length":  func() error { return os.WriteFile(path, append([]byte{255, 255, 255, 255}, good[4:]...), 0o600) },
		"too long":  func() error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"other bits": func() error {
			return os.WriteFile(path, append(append([]byte{}, good[:40]...), make([]byte, len(good)-40)...), 0o600)
		},
		"a folder": func() error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) },
	} {
		check(t, spoil())
		sessions := channel.NewSessions(dir)
		if resumes(t, s, trust, sessions) {
			t.Errorf("%s: resumed", what)
		}
		sessions.Save()
		check(t, os.RemoveAll(path))
	}

	// Nor can the want of one.
	nowhere := filepath.Join(dir, "not", "there")
	sessions = channel.NewSessions(nowhere)
	resumes(t, s, trust, sessions)
	sessions.Save()
	if _, err := os.Stat(filepath.Dir(nowhere)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder around it was made: %v", err)
	}
}

// A server that breaks off where it should start anew is not asked twice.
func TestSessionsRefused(t *testing.T) {
	for what, end := range map[string]func(net.Conn){"an alert": func(net.Conn) {}, "a hang-up": func(c net.Conn) { c.Close() }} {
		breaksOff := false
		s := serve(t, pop3test.CertOptions{}, func(c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				const presharedKey = 41 // RFC 8446 §4.2
				if breaksOff && slices.Contains(hello.Extensions, presharedKey) {
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
		breaksOff = true
		// Another account was offering it, too, when the first one failed.
		mine, other := trust.Config(s.addr, sessions), trust.Config(s.addr, sessions)
		if _, offered := other.ClientSessionCache.Get(""); !offered {
			t.Fatalf("%s: nothing to offer", what)
		}
		_, err := talk(t, s.addr, mine)
		if _, ok := errors.AsType[*channel.ResumeError](err); !ok {
			t.Fatalf("%s: the failure is %v", what, err)
		}
		if a, ok := channel.Advise(err); !ok || a.Person {
			t.Errorf("%s: %+v", what, a)
		}
		if _, ok := errors.AsType[*channel.ResumeError](channel.NotResumed(other, io.EOF)); !ok {
			t.Errorf("%s: the other account is not called again", what)
		}
		for range 2 {
			if resumes(t, s, trust, sessions) {
				t.Errorf("%s: resumed", what)
			}
		}
		sessions.Save()
		if resumes(t, s, trust, channel.NewSessions(dir)) {
			t.Errorf("%s: the next run resumed", what)
		}
	}
}

// Files that nobody has used for long are swept away.
func TestSessionsSweep(t *testing.T) {
	s := serve(t, pop3test.CertOptions{}, nil)
	dir := t.TempDir()
	old := time.Now().Add(-60 * 24 * time.Hour)
	for _, name := range []string{"old", "young"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	check(t, os.Chtimes(filepath.Join(dir, "old"), old, old))
	sessions := channel.NewSessions(dir)
	resumes(t, s, channel.Trust{CAs: []*x509.Certificate{s.cert}}, sessions)
	sessions.Save()
	if left := files(t, dir); left["old"] != nil || left["young"] == nil || len(left) != 2 {
		t.Errorf("left: %v", left)
	}
}

func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := channel.ParseSession(data)
		if err == nil && state == nil {
			t.Error("nothing")
		}
	})
}
