package git_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernelflow/kernelflow/shared/node"
)

const makefile = "# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\nNAME = Hurr durr\n\nall:\n\tVERSION = 9\n"

func TestARevisionIsNamedAsKernelCIDoes(t *testing.T) {
	number := func(n int) *int { return &n }
	for name, tc := range map[string]struct {
		make     func(r *repository) string
		describe string // COMMIT stands for the first digits of the commit
		version  *node.Version
		tags     string
		message  string
	}{
		"at a tag": {
			make:     func(r *repository) string { id := r.commit("a", "1", "one\n\nwhy"); r.tag("v6.5.3"); return id },
			describe: "v6.5.3", version: &node.Version{Version: 6, PatchLevel: 5, Sublevel: number(3)}, tags: "v6.5.3", message: "one\n\nwhy",
		},
		"after a release candidate": {
			make: func(r *repository) string {
				r.commit("Makefile", makefile, "one")
				r.tag("v6.13-rc6")
				return r.commit("a", "2", "two")
			},
			describe: "v6.13-rc6-1-gCOMMIT", message: "two",
			version: &node.Version{Version: 6, PatchLevel: 13, Extra: "-rc6-1-gCOMMIT", Name: "Hurr durr"},
		},
		"at a tag that is no version": {
			make: func(r *repository) string {
				r.commit("a", "1", "one")
				r.tag("v6.12")
				id := r.commit("a", "2", "two")
				r.tag("next-20250112")
				r.git("tag", "light")
				return id
			},
			describe: "next-20250112", message: "two", tags: "light next-20250112",
			version: &node.Version{Version: 6, PatchLevel: 12, Extra: "-1-gCOMMIT"},
		},
		"without tags, a kernel": {
			make:     func(r *repository) string { return r.commit("Makefile", makefile, "one") },
			describe: "COMMIT", message: "one",
			version: &node.Version{Version: 6, PatchLevel: 1, Sublevel: number(0), Extra: "-rc3", Name: "Hurr durr"},
		},
		"without tags, no kernel": {
			make:     func(r *repository) string { return r.commit("a", "1", "one") },
			describe: "COMMIT", message: "one",
		},
		"a Makefile that is a folder": {
			make: func(r *repository) string {
				return r.commit("Makefile/VERSION", "VERSION = 1\nPATCHLEVEL = 2\n", "one")
			},
			describe: "COMMIT", message: "one",
		},
		"a message in Latin-1": {
			make: func(r *repository) string {
				r.git("config", "i18n.commitEncoding", "ISO-8859-1")
				return r.commit("a", "1", "caf\xe9")
			},
			describe: "COMMIT", message: "café",
		},
		"a message in no encoding": {
			make:     func(r *repository) string { return r.rawMessage("caf\xe9 \xff") },
			describe: "COMMIT", message: "caf\uFFFD \uFFFD",
		},
		"a message without end": {
			make:     func(r *repository) string { return r.commit("a", "1", strings.Repeat("x", 100_000)) },
			describe: "COMMIT", message: strings.Repeat("x", 64<<10),
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			id := tc.make(r)
			got, err := fetch(t.Context(), t, newGit(t), r.at(id)).Revision(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("COMMIT", id[:12])
			if got.Describe != want.Replace(tc.describe) || got.CommitMessage != tc.message || strings.Join(got.CommitTags, " ") != tc.tags {
				t.Errorf("describe %q, tags %q, message %.80q", got.Describe, got.CommitTags, got.CommitMessage)
			}
			if tc.version != nil {
				tc.version.Extra = want.Replace(tc.version.Extra)
			}
			if !sameVersion(got.Version, tc.version) {
				t.Errorf("version %+v, want %+v", got.Version, tc.version)
			}
			if got.URL != r.url() || got.Branch != "main" || got.Commit != id || !*got.TipOfBranch {
				t.Errorf("revision %+v", got)
			}
		})
	}
}

func sameVersion(a, b *node.Version) bool {
	if a == nil || b == nil || a.Sublevel == nil || b.Sublevel == nil {
		return a == b || a != nil && b != nil && a.Sublevel == b.Sublevel && *a == *b
	}
	x, y := *a, *b
	x.Sublevel, y.Sublevel = nil, nil
	return x == y && *a.Sublevel == *b.Sublevel
}

// rawMessage makes a commit whose message is taken as it is: git commit itself
// would mend the encoding.
func (r *repository) rawMessage(message string) string {
	r.t.Helper()
	r.commit("a", "1", "another message")
	header, _, _ := strings.Cut(r.git("cat-file", "commit", "HEAD"), "\n\n")
	file := filepath.Join(r.t.TempDir(), "commit")
	must(r.t, os.WriteFile(file, []byte(header+"\n\n"+message+"\n"), 0o644))
	id := r.git("hash-object", "-t", "commit", "-w", file)
	r.git("update-ref", "refs/heads/main", id)
	return id
}
