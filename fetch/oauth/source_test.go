package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailhaul/mailhaul/fetch/oauth"
	"github.com/mailhaul/mailhaul/fetch/oauth/oauthtest"
)

func TestTokenIsRefreshedAheadOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{AccessLife: time.Hour})
		c := client(p)
		s := oauth.NewSource(c, granted(t, c))
		first := token(t, s)
		time.Sleep(54 * time.Minute)
		if token(t, s) != first || p.Refreshes() != 1 {
			t.Errorf("a token that is good for 6 minutes was replaced; %d refreshes", p.Refreshes())
		}
		time.Sleep(2 * time.Minute)
		if token(t, s) == first || p.Refreshes() != 2 {
			t.Errorf("a token that is good for 4 minutes was not replaced; %d refreshes", p.Refreshes())
		}
	})
}

// A token ends while the machine sleeps, too, and with a clock that was set back.
func TestTokenEndsInSleep(t *testing.T) {
	machine := time.Now() // in a bubble, there is but one clock
	for name, test := range map[string]struct{ wall, both time.Duration }{
		"asleep":   {wall: 8 * time.Hour},
		"set back": {wall: -24 * time.Hour, both: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{AccessLife: time.Hour})
				c := client(p)
				s := oauth.NewSource(c, granted(t, c))
				began, off := time.Now(), time.Duration(0)
				s.Now = func() time.Time { return shifted(t, machine.Add(time.Since(began)), off) }
				first := token(t, s)
				time.Sleep(test.both)
				off = test.wall
				if token(t, s) == first {
					t.Error("the old token is handed out")
				}
			})
		})
	}
}

// Nor does a provider stay alone for longer than it takes.
func TestPauseEndsInSleep(t *testing.T) {
	machine := time.Now()
	for name, test := range map[string]struct{ wall, both time.Duration }{
		"asleep":   {wall: 8 * time.Hour},
		"set back": {wall: -24 * time.Hour, both: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{})
				c := client(p)
				s := oauth.NewSource(c, granted(t, c))
				began, off := time.Now(), time.Duration(0)
				s.Now = func() time.Time { return shifted(t, machine.Add(time.Since(began)), off) }
				p.Next(oauthtest.Status(500))
				_, err := s.Token(t.Context())
				isTemporary(t, err)
				time.Sleep(test.both)
				off = test.wall
				token(t, s)
			})
		})
	}
}

// shifted returns a time with its reading of the clock on the wall moved by d, and
// that of the clock which stops in sleep, and is never set, as it is.
func shifted(t *testing.T, now time.Time, d time.Duration) time.Time {
	t.Helper()
	then := now
	// Above 30 bits of nanoseconds are the seconds on the wall.
	*(*uint64)(unsafe.Pointer(&then)) += uint64(d/time.Second) << 30
	if then.Sub(now) != 0 || then.Round(0).Sub(now.Round(0)) != d {
		t.Fatal("a time is laid out in another way")
	}
	return then
}

func token(t *testing.T, s *oauth.Source) string {
	t.Helper()
	access, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return access
}

func TestManyAccountsRefreshOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		s := oauth.NewSource(c, granted(t, c))
		release := make(chan struct{})
		p.Next(oauthtest.Hold(nil, release))
		var wg sync.WaitGroup
		got := make([]string, 50)
		for i := range got {
			wg.Go(func() { got[i], _ = s.Token(t.Context()) })
		}
		synctest.Wait() // all are waiting now
		close(release)
		wg.Wait()
		for _, access := range got {
			if access == "" || access != got[0] {
				t.Fatalf("different tokens: %q and %q", got[0], access)
			}
		}
		if n := p.Refreshes(); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
	})
}

// Two processes have a Source each; a provider that rotates would end the
// grant if both used the same refresh token.
func TestProcessesTakeTurns(t *testing.T) {
	p := oauthtest.New(oauthtest.Options{Rotate: true})
	c := client(p)
	c.Provider.DeviceURL = p.URL + "/device"
	store := oauth.NewStore(t.TempDir())
	synctest.Test(t, func(t *testing.T) { login(t, c, store) })
	reached, release := make(chan struct{}), make(chan struct{})
	p.Next(oauthtest.Hold(reached, release))

	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			_, err := oauth.NewSource(c, store).Token(t.Context())
			done <- err
		}()
	}
	<-reached
	close(release)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := p.Refreshes(); n != cap(done) {
		t.Errorf("%d refreshes, want one a process", n)
	}
}

// TestRotatedTokenIsStoredFirst has a refresh token come that cannot be stored.
func TestRotatedTokenIsStoredFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		before := login(t, c, store)
		s := oauth.NewSource(c, store)

		// A folder in the place of the new file cannot take the name of a file.
		block := newFile(t, state)
		reached, release := make(chan struct{}), make(chan struct{})
		p.Next(oauthtest.Hold(reached, release))
		go func() {
			<-reached
			if err := errors.Join(os.Remove(block), os.Mkdir(block, 0o700)); err != nil {
				t.Error(err)
			}
			close(release)
		}()
		access, err := s.Token(t.Context())
		if access != "" || err == nil || p.Refreshes() != 1 {
			t.Fatalf("got a token, error %v; its refresh token is not stored", err)
		}
		noSecrets(t, p, err.Error())

		// The old refresh token is dead: what could not be stored is used.
		if err := os.RemoveAll(block); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		token(t, s)
		// And what was stored works in the next process.
		token(t, oauth.NewSource(c, store))
		after, err := store.Load(c)
		if err != nil || !after.Granted.Equal(before.Granted) || !after.Refreshed.After(before.Refreshed) {
			t.Errorf("granted %v refreshed %v, were %v and %v; error %v", after.Granted, after.Refreshed, before.Granted, before.Refreshed, err)
		}
	})
}

// newFile returns where the new file of the only grant is written.
func newFile(t *testing.T, state string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(state, "oauth", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return files[0] + ".new"
}

// TestFullDisk has a process that ends with its first error find no room for a
// refresh token, which costs nothing but that.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		login(t, c, store)
		if err := os.Symlink("/dev/full", newFile(t, state)); err != nil {
			t.Fatal(err)
		}
		if access, err := oauth.NewSource(c, store).Token(t.Context()); access != "" || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%v, want that of a full disk", err)
		}
		if n := p.Refreshes(); n != 0 {
			t.Errorf("the provider was asked %d times", n)
		}
		if _, err := os.Lstat(newFile(t, state)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what had no room is left: %v", err)
		}
		token(t, oauth.NewSource(c, store))
	})
}

func TestInvalidGrantNeedsAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := granted(t, c)
		s := oauth.NewSource(c, store)
		p.Revoke()
		_, err := s.Token(t.Context())
		needsPerson(t, err, "invalid_grant")
		noSecrets(t, p, err.Error()) // the provider's words hold the token
		// The others of the same grant need not ask again.
		_, err = s.Token(t.Context())
		needsPerson(t, err, "invalid_grant")
		if n := p.Refreshes(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		login(t, c, store)
		time.Sleep(5 * time.Minute)
		token(t, s)
	})
}

func TestTroubleIsTemporary(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"500":              oauthtest.Status(500),
		"503":              oauthtest.Status(503),
		"429":              oauthtest.Status(429),
		"a captive portal": oauthtest.Status(200),
		"a redirect":       oauthtest.Status(302),
		"half of it":       oauthtest.Body(`{"access_token":"access-hunter2","token_ty`),
		"no token":         oauthtest.Body(`{"token_type":"Bearer"}`),
		"a broken token":   oauthtest.Body(`{"access_token":"hunter2\u0001auth=x","token_type":"Bearer"}`),
		"too much":         oauthtest.Body(fmt.Sprintf(`{"x":"%0300000d"}`, 0)),
		"server_error":     oauthtest.Refuse("server_error"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{})
				c := client(p)
				s := oauth.NewSource(c, granted(t, c))
				p.Next(fault)
				_, err := s.Token(t.Context())
				isTemporary(t, err)
				noSecrets(t, p, err.Error())
				if _, again := s.Token(t.Context()); again != err || p.Refreshes() != 1 {
					t.Errorf("asked again at once: %v, %d requests", again, p.Refreshes())
				}
				time.Sleep(5 * time.Second)
				token(t, s)
			})
		})
	}
}

func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		s := oauth.NewSource(c, granted(t, c))
		for range 40 {
			p.Next(oauthtest.Status(500))
		}
		for range 3600 { // an hour
			_, err := s.Token(t.Context())
			isTemporary(t, err)
			time.Sleep(time.Second)
		}
		if n := p.Refreshes(); n < 12 || n > 20 {
			t.Errorf("%d requests in an hour", n)
		}
	})
}

func TestNetworkTroubleIsTemporary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := granted(t, c)
		c.HTTP.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") })
		_, err := oauth.NewSource(c, store).Token(t.Context())
		isTemporary(t, err)
		noSecrets(t, p, err.Error())
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A caller that gives up leaves the refresh to go on: the provider may have
// rotated the refresh token already.
func TestTokenObeysItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		store := granted(t, c)
		s := oauth.NewSource(c, store)
		release := make(chan struct{})
		p.Next(oauthtest.Hold(nil, release))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := s.Token(ctx)
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		go close(release)
		s.Close() // waits until the new refresh token is stored
		token(t, oauth.NewSource(c, store))
	})
}

// Nor does one begin once its only caller has given up: whoever made it do so, and saw
// that none is under way, may end the process.
func TestTokenBeginsNothingLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		s := oauth.NewSource(c, granted(t, c))
		release := make(chan struct{})
		p.Next(oauthtest.Hold(nil, release))
		ctx, cancel := context.WithCancel(t.Context())
		s.Now = func() time.Time { cancel(); return time.Now() } // while the grant is looked at
		if _, err := s.Token(ctx); !errors.Is(err, context.Canceled) || s.Renewing() {
			t.Errorf("%v; a refresh is under way: %v", err, s.Renewing())
		}
		close(release)
		s.Close()
	})
}

// A daemon looks for logins, and other accounts for a token, while the provider's
// endpoints are being learned. The race detector tells whether they may.
func TestGrantedDuringDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		known, unknown := client(p), client(p)
		known.Provider.Issuer = p.URL
		unknown.Provider = oauth.Provider{Name: "test", Issuer: p.URL}
		s := oauth.NewSource(unknown, granted(t, known))
		done := make(chan error)
		go func() {
			_, err := s.Token(t.Context())
			done <- err
		}()
		for {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return
			default:
				if s.Granted().IsZero() {
					t.Fatal("nobody has logged in")
				}
			}
		}
	})
}

// A provider that does not answer is given up, also while somebody waits with
// all the time in the world.
func TestSilentProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		s := oauth.NewSource(c, granted(t, c))
		p.Next(oauthtest.Hold(nil, nil))
		_, err := s.Token(t.Context())
		isTemporary(t, err)
	})
}

func TestStuckProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		login(t, c, store)
		locks, err := filepath.Glob(filepath.Join(state, "oauth", "*.lock"))
		if err != nil || len(locks) != 1 {
			t.Fatal(locks, err)
		}
		f, err := os.Open(locks[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Fatal(err)
		}
		_, err = oauth.NewSource(c, store).Token(t.Context())
		isTemporary(t, err)
		if p.Refreshes() != 0 {
			t.Error("it refreshed all the same")
		}
	})
}

func TestWrongClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := granted(t, c)
		c.Secret = func(context.Context) (string, error) { return "wrong", nil }
		_, err := oauth.NewSource(c, store).Token(t.Context())
		needsPerson(t, err, "invalid_client")
		c.Secret = func(context.Context) (string, error) { return "", errors.New("the vault is locked") }
		_, err = oauth.NewSource(c, store).Token(t.Context())
		needsPerson(t, err, "")
	})
}

func TestPublicAndBasicClients(t *testing.T) {
	for name, o := range map[string]oauthtest.Options{"public": {Public: true}, "basic": {Basic: true, ID: "a b%:c", Secret: "s p:%/"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(o)
				c := client(p)
				c.Provider.Basic = o.Basic
				if o.Public {
					c.Secret = nil
				}
				token(t, oauth.NewSource(c, granted(t, c)))
			})
		})
	}
}

// A token that a mail server does not take is not handed out again.
func TestRefused(t *testing.T) {
	p, c := started(t, oauthtest.Options{})
	var page <-chan string
	g, err := c.Browser(t.Context(), func(address string) error {
		page = inBackground(t, address)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-page
	store := oauth.NewStore(t.TempDir())
	if err := store.Save(t.Context(), c, g); err != nil {
		t.Fatal(err)
	}
	s := oauth.NewSource(c, store)
	first := token(t, s)
	s.Refused("another")
	if again := token(t, s); again != first || p.Refreshes() != 1 {
		t.Errorf("%d refreshes, want 1", p.Refreshes())
	}
	s.Refused(first)
	if second := token(t, s); second == first || p.Refreshes() != 2 {
		t.Errorf("the token that was refused comes again; %d refreshes", p.Refreshes())
	}
}
