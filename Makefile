# Targets are for people and for CI alike; `make help` lists them.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

# Without a repository, or in somebody else's, the version is not stamped.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

# `make lint` vets.
GO_TEST := go test -count=1 -timeout=10m -vet=off

# What test-vm fetches once and keeps: 850 MB.
VM_CACHE := $(or $(IPMASQ_VM),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ipmasq-vm)

# What reliability fetches once and keeps: 25 MB.
PEERS_CACHE := $(or $(IPMASQ_PEERS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ipmasq-peers)

.PHONY: help build test test-386 test-vm setup lint demo bench reliability oracle soak golden cover clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 13

build: ## build bin/ipmasq
	go build -buildvcs=$(VCS) -o bin/ipmasq ./cmd/ipmasq

test: setup build ## run all tests; again on iptables and, as root, as an ordinary user
	IPMASQ_PROGRAM="$(CURDIR)/bin/ipmasq" $(GO_TEST) -p=$$(($$(nproc) + 1)) ./...
	@sh test/again.sh

test-vm: ## run packet tests on other kernels, in emulated machines
	@sh test/setup.sh vm
	@sh test/vm/fetch.sh "$(VM_CACHE)"
	IPMASQ_VM="$(VM_CACHE)" go test -count=1 -timeout=40m -tags=vm -v ./test/vm

test-386: setup ## run the tests as 32-bit programs, which need no other kernel
	GOARCH=386 CGO_ENABLED=0 go build -buildvcs=$(VCS) -o bin/386/ipmasq ./cmd/ipmasq
	GOARCH=386 CGO_ENABLED=0 IPMASQ_PROGRAM="$(CURDIR)/bin/386/ipmasq" $(GO_TEST) -p=$$(($$(nproc) + 1)) $$(go list ./... | grep -v /test/systemd)

setup:
	@sh test/setup.sh

lint: ## gofmt, go vet, staticcheck, go mod tidy, length of files
	@sh test/lint.sh $(STATICCHECK)

demo: build ## show what ipmasq does, in throw-away namespaces; no root needed
	@IPMASQ_PROGRAM=bin/ipmasq go run ./test/demo

bench: build ## measure, and compare with other tools
	go run ./test/bench

reliability: setup build ## measure what a reload costs the traffic, by ipmasq and by other tools
	@sh test/reliability/fetch.sh "$(PEERS_CACHE)"
	IPMASQ_PROGRAM=bin/ipmasq IPMASQ_PEERS="$(PEERS_CACHE)" go run ./test/reliability

oracle: ## compare what explain says with the kernel: ORACLE="-seed 7 -packets 1000000 -budget 1h"
	go test -count=1 -timeout=0 -run TestOracle -v ./test/oracle -packets 100000 -budget 15m $(ORACLE)

soak: ## worry the daemon for twenty minutes, in throw-away namespaces
	IPMASQ_SOAK=20m go test -count=1 -timeout=30m -run TestRunSoak -v ./test/packet

golden: ## write the golden files anew; look at the difference before you commit it
	@packages=$$(grep -lr 'flag.Bool("update"' --include=*_test.go . | xargs -r -n1 dirname | sort -u); \
	if [ -z "$$packages" ]; then echo "no package has golden files"; else go test -count=1 $$packages -update; fi

cover: ## tell how much of each package the tests of all packages run
	$(GO_TEST) -coverpkg=./cmd/...,./pkg/... -coverprofile=cover.out ./...
	@go tool cover -func=cover.out | tail -n 1

clean:
	rm -rf bin cover.out
