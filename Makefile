# What people and CI run. Each target says what it does; make help lists them.

GO ?= go
BIN ?= bin

.PHONY: help run demo demo-kernel test check bench build clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## run everything on this machine until stopped
	$(GO) run ./local

demo: ## watch two commits of a sample tree become two reports
	scripts/demo.sh

demo-kernel: ## the same on a Linux tree: make demo-kernel LINUX=DIR-or-URL
	scripts/demo-kernel.sh "$(LINUX)"

test: ## run the tests: no root, no network but module download
	$(GO) test -race -timeout 20m ./...

check: ## everything CI checks without servers
	scripts/check.sh

bench: ## print the numbers of the design, with limit or peer beside each
	scripts/bench.sh

build: ## build the binaries into bin/
	$(GO) build -o $(BIN)/ ./local ./infra/cloudrun

clean: ## remove what was built and what the emulator keeps in data/
	rm -rf $(BIN) data
