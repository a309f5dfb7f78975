package durabletest_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mailhaul/mailhaul/deliver/durable"
	. "github.com/mailhaul/mailhaul/deliver/durable/durabletest"
)

// While nothing is cut off, the model and the system's own file system do the
// same.
func TestLikeTheSystem(t *testing.T) {
	for seed := range uint64(100) {
		system := script(durable.OS, t.TempDir(), seed)
		model := New()
		must(t, model.Mkdir("/root", 0o700))
		if diff := cmp.Diff(system, script(model, "/root", seed)); diff != "" {
			t.Fatalf("seed %d (-system +model):\n%s", seed, diff)
		}
	}
}

// script does operations that the seed chooses, and tells what came of each.
func script(fs durable.FS, root string, seed uint64) (log []string) {
	random := rand.New(rand.NewPCG(seed, 0))
	name := func() string {
		return filepath.Join(root, []string{"a", "b", "d", "d/a", "d/b", "d/e", "a/b"}[random.IntN(7)])
	}
	access := []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR}
	flags := []int{0, 0, os.O_CREATE, os.O_CREATE | os.O_EXCL, os.O_CREATE | os.O_APPEND, os.O_TRUNC}
	for range 40 {
		var did string
		var err error
		switch random.IntN(8) {
		case 0:
			n := name()
			did, err = "mkdir "+n, fs.Mkdir(n, 0o700)
		case 1:
			n := name()
			did, err = "remove "+n, fs.Remove(n)
		case 2:
			from, to := name(), name()
			did, err = "rename "+from+" "+to, fs.Rename(from, to)
		case 3:
			n := name()
			var list []string
			entries, lerr := fs.ReadDir(n)
			for _, e := range entries {
				list = append(list, e.Name())
			}
			did, err = fmt.Sprint("list ", n, list), lerr
		case 4:
			n := name()
			did, err = "syncdir "+n, fs.SyncDir(n)
		default:
			n := name()
			flag := access[random.IntN(len(access))] | flags[random.IntN(len(flags))]
			did = fmt.Sprintf("open %s %#x", n, flag)
			var f durable.File
			if f, err = fs.OpenFile(n, flag, 0o600); err == nil {
				did += use(f, random)
			}
		}
		var errno syscall.Errno
		errors.As(err, &errno)
		log = append(log, strings.ReplaceAll(did, root, "")+": "+errno.Error())
	}
	return log
}

// use does something with an open file and closes it.
func use(f durable.File, random *rand.Rand) string {
	var b strings.Builder
	for range 3 {
		var n int
		var err error
		var read [5]byte
		switch random.IntN(6) {
		case 0:
			n, err = f.Read(read[:])
		case 1:
			n, err = f.ReadAt(read[:], random.Int64N(6))
		case 2:
			n, err = io.WriteString(f, "hello")
		case 3:
			err = f.Truncate(random.Int64N(9))
		case 4:
			err = f.Sync()
		case 5:
			err = f.Chmod(0o640)
		}
		info, serr := f.Stat()
		if serr != nil {
			return serr.Error()
		}
		if !info.IsDir() { // the size of a directory is the system's affair
			fmt.Fprintf(&b, " %d %q %v %v size %d %v", n, read, err == nil, err == io.EOF, info.Size(), info.Mode())
		}
	}
	f.Close()
	return b.String()
}
