# Everything a contributor runs. "make help" lists it.
.DEFAULT_GOAL := help
LINT := go tool -modfile=tools/go.mod golangci-lint

.PHONY: help run cluster build test lint fmt bench soak clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## build ./caddy, start it with Caddyfile.example, show what to try
	@tools/run.sh

cluster: ## build ./caddy, run three nodes behind a load balancer, with PostgreSQL and Redis
	@tools/check-go.sh
	./xcaddy.build
	@examples/cluster/run.sh

build: ## build ./caddy with xcaddy
	@tools/check-go.sh
	./xcaddy.build

test: ## run all tests with the race detector
	@tools/test.sh

lint: ## run all linters
	@tools/lint.sh

fmt: ## format all Go code
	$(LINT) fmt
	cd bench && go tool -modfile=../tools/go.mod golangci-lint fmt

bench: ## run the benchmarks, and the gate side by side with a plain proxy
	@tools/bench.sh

soak: ## run the long tests: a hundred kills, a million pushes again
	@tools/check-go.sh
	go test -count=1 -tags soak -timeout 60m -v ./integration/...
	go test -count=1 -tags soak -timeout 60m -v -run TestSoak ./internal/store

clean: ## remove ./caddy and what make run and make cluster kept
	rm -rf caddy data examples/cluster/data
