#!/bin/sh
# What must hold of every change: form, vet, staticcheck, import rules, known
# vulnerabilities, and all tests with the race detector.
set -eu
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step gofmt
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	echo "not formatted: $unformatted" >&2
	exit 1
fi

step go vet
go vet ./...

step staticcheck
go tool staticcheck ./...

step govulncheck
if ! out=$(go tool govulncheck ./... 2>&1); then
	case $out in
	*"fetching vulnerabilities"* | *"dial tcp"* | *"no such host"* | *"Forbidden"*)
		echo "SKIPPED: the vulnerability database cannot be reached from here" ;;
	*)
		printf '%s\n' "$out" >&2
		exit 1 ;;
	esac
fi

step go mod verify
go mod verify

step tests with -race
make test
