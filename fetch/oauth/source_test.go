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

func TestTokenIsRenewedBeforeExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{AccessLife: time.Hour})
		c := client(p)
		s := oauth.NewSource(c, storeWithGrant(t, c))
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

// A token is renewed although the monotonic clock stood still while the machine slept, or
// the wall clock was set back.
func TestTokenExpiresDuringSleep(t *testing.T) {
	machine := time.Now() // has a monotonic clock, unlike the times in a synctest bubble
	for name, test := range map[string]struct{ wall, both time.Duration }{
		"asleep":   {wall: 8 * time.Hour},
		"set back": {wall: -24 * time.Hour, both: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{AccessLife: time.Hour})
				c := client(p)
				s := oauth.NewSource(c, storeWithGrant(t, c))
				began, off := time.Now(), time.Duration(0)
				s.Now = func() time.Time { return shiftWallClock(t, machine.Add(time.Since(began)), off) }
				first := token(t, s)
				time.Sleep(test.both)
				off = test.wall
				if token(t, s) == first {
					t.Error("the expired token was returned")
				}
			})
		})
	}
}

// The pause after a failure ends in the same cases.
func TestPauseEndsDuringSleep(t *testing.T) {
	machine := time.Now()
	for name, test := range map[string]struct{ wall, both time.Duration }{
		"asleep":   {wall: 8 * time.Hour},
		"set back": {wall: -24 * time.Hour, both: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{})
				c := client(p)
				s := oauth.NewSource(c, storeWithGrant(t, c))
				began, off := time.Now(), time.Duration(0)
				s.Now = func() time.Time { return shiftWallClock(t, machine.Add(time.Since(began)), off) }
				p.Next(oauthtest.Status(500))
				_, err := s.Token(t.Context())
				checkTemporary(t, err)
				time.Sleep(test.both)
				off = test.wall
				token(t, s)
			})
		})
	}
}

// shiftWallClock returns a time whose wall clock reading is moved by d, and whose
// monotonic clock reading is that of now.
func shiftWallClock(t *testing.T, now time.Time, d time.Duration) time.Time {
	t.Helper()
	then := now
	// The first field of a Time has 30 bits of nanoseconds, and the seconds above them.
	*(*uint64)(unsafe.Pointer(&then)) += uint64(d/time.Second) << 30
	if then.Sub(now) != 0 || then.Round(0).Sub(now.Round(0)) != d {
		t.Fatal("the layout of time.Time has changed")
	}
	return then
}

// token returns the token of a source, which must not fail.
func token(t *testing.T, s *oauth.Source) string {
	t.Helper()
	access, err := s.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return access
}

func TestCallersShareARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		s := oauth.NewSource(c, storeWithGrant(t, c))
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

// Processes, which have a Source each, refresh one after the other: a provider that
// rotates refresh tokens would refuse a second use of one.
func TestProcessesLockTheGrant(t *testing.T) {
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
		t.Errorf("%d refreshes, want one for each process", n)
	}
}

// If a rotated refresh token cannot be stored, Token fails, and the next refresh uses the
// token that was not stored.
func TestRotatedTokenIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		state := t.TempDir()
		store := oauth.NewStore(state)
		before := login(t, c, store)
		s := oauth.NewSource(c, store)

		// A folder at the path of the new file cannot be renamed to the grant.
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
		checkNoSecrets(t, p, err.Error())

		// The old refresh token is no longer valid: the one that was not stored is used.
		if err := os.RemoveAll(block); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		token(t, s)
		// It is stored now, and the next process can use it.
		token(t, oauth.NewSource(c, store))
		after, err := store.Load(c)
		if err != nil || !after.Granted.Equal(before.Granted) || !after.Refreshed.After(before.Refreshed) {
			t.Errorf("granted %v refreshed %v, were %v and %v; error %v", after.Granted, after.Refreshed, before.Granted, before.Refreshed, err)
		}
	})
}

// newFile returns the path of the file that replaces the only grant.
func newFile(t *testing.T, state string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(state, "oauth", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return files[0] + ".new"
}

// On a full disk, Token fails before it requests anything, and the grant stays valid.
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
			t.Errorf("%v, want ENOSPC", err)
		}
		if n := p.Refreshes(); n != 0 {
			t.Errorf("the provider was asked %d times", n)
		}
		if _, err := os.Lstat(newFile(t, state)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file without space was left: %v", err)
		}
		token(t, oauth.NewSource(c, store))
	})
}

func TestInvalidGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := storeWithGrant(t, c)
		s := oauth.NewSource(c, store)
		p.Revoke()
		_, err := s.Token(t.Context())
		checkGrantError(t, err, "invalid_grant")
		checkNoSecrets(t, p, err.Error()) // the provider's error text holds the token
		// Other accounts with the same grant get the error without a request.
		_, err = s.Token(t.Context())
		checkGrantError(t, err, "invalid_grant")
		if n := p.Refreshes(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		login(t, c, store)
		time.Sleep(5 * time.Minute)
		token(t, s)
	})
}

func TestTemporaryErrors(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"500":              oauthtest.Status(500),
		"503":              oauthtest.Status(503),
		"429":              oauthtest.Status(429),
		"a captive portal": oauthtest.Status(200),
		"a redirect":       oauthtest.Status(302),
		"cut short":        oauthtest.Body(`{"access_token":"access-hunter2","token_ty`),
		"no token":         oauthtest.Body(`{"token_type":"Bearer"}`),
		"a broken token":   oauthtest.Body(`{"access_token":"hunter2\u0001auth=x","token_type":"Bearer"}`),
		"too long":         oauthtest.Body(fmt.Sprintf(`{"x":"%0300000d"}`, 0)),
		"server_error":     oauthtest.Refuse("server_error"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := oauthtest.New(oauthtest.Options{})
				c := client(p)
				s := oauth.NewSource(c, storeWithGrant(t, c))
				p.Next(fault)
				_, err := s.Token(t.Context())
				checkTemporary(t, err)
				checkNoSecrets(t, p, err.Error())
				if _, again := s.Token(t.Context()); again != err || p.Refreshes() != 1 {
					t.Errorf("no pause: %v, %d requests", again, p.Refreshes())
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
		s := oauth.NewSource(c, storeWithGrant(t, c))
		for range 40 {
			p.Next(oauthtest.Status(500))
		}
		for range 3600 { // an hour
			_, err := s.Token(t.Context())
			checkTemporary(t, err)
			time.Sleep(time.Second)
		}
		if n := p.Refreshes(); n < 12 || n > 20 {
			t.Errorf("%d requests in an hour", n)
		}
	})
}

func TestNetworkErrorIsTemporary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := storeWithGrant(t, c)
		c.HTTP.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") })
		_, err := oauth.NewSource(c, store).Token(t.Context())
		checkTemporary(t, err)
		checkNoSecrets(t, p, err.Error())
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// If the caller cancels its ctx, the refresh continues: the provider may have rotated the
// refresh token already.
func TestTokenContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		store := storeWithGrant(t, c)
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

// No refresh begins after the ctx of its only caller was canceled: whoever canceled it and
// then saw that Renewing is false may end the process.
func TestTokenAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{Rotate: true})
		c := client(p)
		s := oauth.NewSource(c, storeWithGrant(t, c))
		release := make(chan struct{})
		p.Next(oauthtest.Hold(nil, release))
		ctx, cancel := context.WithCancel(t.Context())
		s.Now = func() time.Time { cancel(); return time.Now() } // after Token has read the grant
		if _, err := s.Token(ctx); !errors.Is(err, context.Canceled) || s.Refreshing() {
			t.Errorf("%v; a refresh is under way: %v", err, s.Refreshing())
		}
		close(release)
		s.Close()
	})
}

// Granted may be called while Token discovers the endpoints. It is the race detector that
// finds a mistake here.
func TestGrantedDuringDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		known, unknown := client(p), client(p)
		known.Provider.Issuer = p.URL
		unknown.Provider = oauth.Provider{Name: "test", Issuer: p.URL}
		s := oauth.NewSource(unknown, storeWithGrant(t, known))
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

// If the provider does not answer, Token fails after a time, even if its ctx has no
// deadline.
func TestSilentProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		s := oauth.NewSource(c, storeWithGrant(t, c))
		p.Next(oauthtest.Hold(nil, nil))
		_, err := s.Token(t.Context())
		checkTemporary(t, err)
	})
}

// If another process keeps the grant locked, Token fails after a time.
func TestLockedGrant(t *testing.T) {
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
		checkTemporary(t, err)
		if p.Refreshes() != 0 {
			t.Error("it refreshed all the same")
		}
	})
}

func TestWrongClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := oauthtest.New(oauthtest.Options{})
		c := client(p)
		store := storeWithGrant(t, c)
		c.Secret = func(context.Context) (string, error) { return "wrong", nil }
		_, err := oauth.NewSource(c, store).Token(t.Context())
		checkGrantError(t, err, "invalid_client")
		c.Secret = func(context.Context) (string, error) { return "", errors.New("the vault is locked") }
		_, err = oauth.NewSource(c, store).Token(t.Context())
		checkGrantError(t, err, "")
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
				token(t, oauth.NewSource(c, storeWithGrant(t, c)))
			})
		})
	}
}

// Token does not return a token again that a mail server has refused.
func TestRefused(t *testing.T) {
	p, c := startProvider(t, oauthtest.Options{})
	var page <-chan string
	g, err := c.Browser(t.Context(), func(address string) error {
		page = browseInBackground(t, address)
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
		t.Errorf("the refused token was returned again; %d refreshes", p.Refreshes())
	}
}
