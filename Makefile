# make help lists the targets.
.DEFAULT_GOAL := build
.PHONY: man build test crash soak bench lint fuzz cross demo install clean help

PREFIX ?= /usr/local
# How long each fuzz target runs in make test and make fuzz.
FUZZTIME ?= 3s

# An older Go downloads the release that go.mod names. /usr/local/go is where Go is
# unpacked by hand.
export GOTOOLCHAIN ?= auto
export PATH := $(PATH):/usr/local/go/bin

# The tag leaves out a renderer of Markdown that nothing here uses.
build: ## build ./mailhaul, one static binary
	CGO_ENABLED=0 go build -buildvcs=auto -trimpath -tags urfave_cli_no_docs -ldflags '-s -w' -o mailhaul ./cmd/mailhaul

# These tests run without the race detector. Most of them try one crash after another:
# with it, they would take four times as long and find no race that the other tests of the
# same code do not find. The others measure memory, and the race detector needs some itself.
PLAIN = (TestExactlyOnce|TestSabotage|TestCrash|TestBrokenOrder|TestKill|TestMemoryOf\w+)

# Runs all tests; a missing server is a failure. The race detector runs last, so that its
# reports end the log. It leaves out SQLite, which is C translated to Go: its data is in
# memory that the detector does not watch, and with it SQLite is three times as slow.
# (The packages around SQLite must not be left out: they share generic code, such as that
# of sync.Map, with ours.) With atexit_sleep_ms=0, the programs that the tests run do not
# wait a second for late races when they end.
test: export MAILHAUL_REQUIRE_SERVERS = 1
test: ## install what is needed and run every test
	.ci/deps
	$(MAKE) build lint cross fuzz
	CGO_ENABLED=0 go test -trimpath -shuffle=on -run '^$(PLAIN)$$' \
		$$(grep -rlE --include='*_test.go' '^func $(PLAIN)\(' . | xargs dirname | sort -u)
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 go test -race -gcflags='modernc.org/sqlite/lib=-race=false' \
		-shuffle=on -skip '^$(PLAIN)$$' ./...

# The kill test comes last, so that its table ends the log.
crash: export MAILHAUL_CRASH = full
crash: ## prove at length that no crash loses or repeats mail (on Linux)
	go test -count=1 -timeout 3h ./fetch ./fetch/modeltest ./deliver/maildir ./deliver/mbox
	go test -count=1 -timeout 1h -v -skip '^TestKill$$' ./cmd/mailhaul/internal/crashtest
	go test -count=1 -timeout 3h -v -run '^TestKill$$' ./cmd/mailhaul/internal/crashtest

# ARGS may choose: -scenario a,c -runs 3 -tools drain,mailhaul,mpop
bench: ## measure mailhaul beside other fetchers; writes docs/benchmarks.md
	.ci/deps
	.ci/bench-deps
	go run ./cmd/mailhaul/internal/bench -out docs/benchmarks.md $(ARGS)

# How long the daemon runs in make soak.
SOAK ?= 5m

soak: ## run a real daemon for SOAK, with mail, faults and signals (on Linux)
	MAILHAUL_SOAK=$(SOAK) go test -count=1 -timeout 24h -v -run '^TestSoak$$' ./cmd/mailhaul/internal/crashtest

lint: ## gofmt, vet, staticcheck, who imports whom
	.ci/lint

fuzz: ## run each fuzz target for FUZZTIME
	.ci/fuzz $(FUZZTIME)

cross: ## check that it compiles for the other systems
	.ci/cross

demo: build ## fetch mail from a throwaway server on loopback
	./mailhaul demo

man: ## write the manual pages anew, from the help and config.example.yaml
	go test -count=1 ./cmd/mailhaul -run '^TestManual$$' -update

# install -D would make the folders, too, but only on Linux.
install: build ## install into DESTDIR/PREFIX
	@set -e; put() { \
		install -d "$(DESTDIR)$(PREFIX)/$$3"; \
		install -m $$1 $$2 "$(DESTDIR)$(PREFIX)/$$3/$$4"; \
	}; \
	put 755 mailhaul bin mailhaul; \
	put 644 docs/mailhaul.1 share/man/man1 mailhaul.1; \
	put 644 docs/mailhaul.yaml.5 share/man/man5 mailhaul.yaml.5; \
	put 644 config.example.yaml share/doc/mailhaul config.example.yaml; \
	put 644 cmd/mailhaul/completions/bash share/bash-completion/completions mailhaul; \
	put 644 cmd/mailhaul/completions/zsh share/zsh/site-functions _mailhaul; \
	put 644 cmd/mailhaul/completions/fish share/fish/vendor_completions.d mailhaul.fish

clean: ## remove what was built
	rm -f mailhaul

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10
