// Cross checks that mailhaul and its tests compile for the systems that are given, such
// as linux/arm64. It only type-checks the sources, and skips function bodies in
// dependencies: compiling the standard library and SQLite for each system takes minutes,
// and would find nothing more.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

func main() {
	var checks sync.WaitGroup
	errs := make([]error, len(os.Args))
	for i, system := range os.Args[1:] {
		checks.Go(func() {
			if err := check(system); err != nil {
				errs[i] = fmt.Errorf("%s:\n%w", system, err)
			}
		})
	}
	checks.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("cross: compiles for", strings.Join(os.Args[1:], ", "))
}

// source is a package as go list describes it. A package compiled with its tests is a
// separate one.
type source struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	ImportMap  map[string]string // the package that an import path stands for, if it is another one
	Module     *struct {
		Main      bool
		GoVersion string
	}
	Error *struct{ Err string }
}

func (s *source) ours() bool { return s.Module != nil && s.Module.Main }

// check type-checks all packages for one system.
func check(system string) error {
	goos, goarch, _ := strings.Cut(system, "/")
	// With -deps, go list prints a package after those that it imports.
	list := exec.Command("go", "list", "-e", "-deps", "-test", "-json=ImportPath,Dir,GoFiles,ImportMap,Module,Error", "./...")
	list.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.StdoutPipe()
	if err != nil {
		return err
	}
	if err := list.Start(); err != nil {
		return err
	}
	var errs []error
	sizes := types.SizesFor("gc", goarch)
	checked := map[string]*types.Package{"unsafe": types.Unsafe}
	for in := json.NewDecoder(out); ; {
		var s source
		if err := in.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if s.Error != nil {
			errs = append(errs, errors.New(s.Error.Err))
		}
		if s.ImportPath == "unsafe" || strings.HasSuffix(s.ImportPath, ".test") {
			continue // built in, and generated
		}
		var files []*ast.File
		for _, name := range s.GoFiles {
			f, err := parse(filepath.Join(s.Dir, name), s.ours())
			if err != nil {
				errs = append(errs, err)
			}
			files = append(files, f)
		}
		config := types.Config{
			Sizes: sizes, IgnoreFuncBodies: !s.ours(),
			Importer: importer(func(path string) (*types.Package, error) {
				if other, ok := s.ImportMap[path]; ok {
					path = other
				}
				if p := checked[path]; p != nil {
					return p, nil
				}
				return nil, fmt.Errorf("%s is missing", path)
			}),
			Error: func(err error) {
				if s.ours() {
					errs = append(errs, err)
				}
			},
		}
		if s.Module != nil && s.Module.GoVersion != "" {
			config.GoVersion = "go" + s.Module.GoVersion
		}
		path, _, _ := strings.Cut(s.ImportPath, " ")
		checked[s.ImportPath], _ = config.Check(path, fset, files, nil)
	}
	return errors.Join(append(errs, list.Wait())...)
}

type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }

var fset = token.NewFileSet()

// parsed caches the files, since most are the same for every system.
var parsed sync.Map

// parse parses a file, once. It drops the function bodies of dependencies.
func parse(name string, ours bool) (*ast.File, error) {
	once, _ := parsed.LoadOrStore(name, sync.OnceValues(func() (*ast.File, error) {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err == nil && !ours {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok {
					d.Body = nil
				}
			}
		}
		return f, err
	}))
	return once.(func() (*ast.File, error))()
}
