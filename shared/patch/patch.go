// Package patch is what a patch from a stranger may be, and where it may come
// from. It is the only door to the parser of unified diffs.
//
// [Clean] reads a patch (a plain unified diff, what `git diff` or
// `git format-patch` write, a mail in any encoding, or an mbox of several) and writes anew what it
// understood of it. Whoever applies it applies that text and no other, so
// nothing is applied that was not looked at, however another parser would have
// read the original.
//
// A patch changes plain text files inside the tree: names are relative and lead
// neither out of the tree nor into a .git folder, modes are 100644 or 100755,
// and nothing is binary. A patch that changes a symbolic link's target without
// saying that it is one cannot be told here; shared/git looks at what has come
// of it.
//
// [Source] fetches a patch by its URL from hosts that are allowed, and asks
// before each step whether the host is: no request reaches another one.
package patch

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"github.com/kernelflow/kernelflow/shared/errs"
)

// Bounds of a patch set. The first two are those that kci-dev has.
const (
	MaxCount = 32
	MaxSize  = 10 << 20 // bytes of one patch
	MaxTotal = 64 << 20 // bytes of all patches of a set: they are held in memory
	maxLines = 500_000  // of one patch: each takes many times its text in memory
	maxName  = 1024     // bytes of a file's name
)

// Folder is where in storage the patches lie that came without a URL.
const Folder = "patchset"

// The texts of what KernelCI says about patches.
var (
	errTooLarge = errs.New(errs.Invalid, "Patch too large")
	errBinary   = errs.New(errs.Invalid, "Binary patch content not allowed")
)

// Clean checks a patch and returns it as `git apply -p1` takes it. The error
// is errs.Invalid and names the file or line.
func Clean(text []byte) ([]byte, error) {
	if len(text) > MaxSize {
		return nil, errTooLarge
	}
	text, err := decoded(text)
	switch {
	case err != nil:
		return nil, err
	case bytes.Count(text, []byte("\n")) > maxLines:
		return nil, errTooLarge
	case bytes.IndexByte(text, 0) >= 0:
		return nil, errBinary
	}
	files, _, err := gitdiff.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, errs.New(errs.Invalid, "Invalid patch: %.300s", err)
	}
	if len(files) == 0 {
		return nil, errs.New(errs.Invalid, "Invalid patch: there is no unified diff in it")
	}
	var out bytes.Buffer
	traditional := !hasGitHeader(text)
	for _, f := range files {
		if traditional {
			f.OldName, f.NewName = stripped(f.OldName), stripped(f.NewName)
		}
		noneIsNoName(f)
		if err := check(f); err != nil {
			return nil, err
		}
		f.OldOIDPrefix, f.NewOIDPrefix = "", "" // what the patch says of its origin counts for nothing
		out.WriteString(f.String())
	}
	return out.Bytes(), nil
}

var gitHeader = []byte("diff --git ")

// hasGitHeader says whether git wrote the patch: then the parser has taken the
// first part off the names.
func hasGitHeader(text []byte) bool {
	return bytes.HasPrefix(text, gitHeader) || bytes.Contains(text, append([]byte("\n"), gitHeader...))
}

// stripped takes the first part off a name, as patch -p1 does. An absolute name
// stays one.
func stripped(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	_, rest, _ := strings.Cut(name, "/")
	return rest
}

// noneIsNoName makes a file new or deleted that the header calls /dev/null
// without saying so in words.
func noneIsNoName(f *gitdiff.File) {
	if f.OldName == os.DevNull {
		f.OldName, f.IsNew = "", true
	}
	if f.NewName == os.DevNull {
		f.NewName, f.IsDelete = "", true
	}
}

// check refuses what leaves the tree or is no plain text file.
func check(f *gitdiff.File) error {
	if f.IsBinary {
		return errBinary
	}
	moved := f.IsRename || f.IsCopy
	switch {
	case f.OldName == "" && f.NewName == "":
		return errs.New(errs.Invalid, "Invalid patch: a file has no name below the first folder")
	case f.OldName != "" && f.NewName != "" && (f.OldName == f.NewName) == moved:
		return errs.New(errs.Invalid, "Invalid patch: file %.200q: is called %.200q too", f.OldName, f.NewName)
	case len(f.TextFragments) == 0 && f.NewMode == 0 && !moved && !f.IsDelete:
		return errs.New(errs.Invalid, "Invalid patch: file %.200q: nothing changes", f.NewName)
	}
	for _, name := range []string{f.OldName, f.NewName} {
		if why := unfit(name); name != "" && why != "" {
			return errs.New(errs.Invalid, "Invalid patch: file %.200q: %s", name, why)
		}
	}
	for _, mode := range []os.FileMode{f.OldMode, f.NewMode} {
		if !slices.Contains([]os.FileMode{0, 0o100644, 0o100755}, mode) {
			return errs.New(errs.Invalid, "Invalid patch: file %.200q: mode %o is none of a plain file", f.NewName+f.OldName, mode)
		}
	}
	return nil
}

// unfit says why a name cannot be that of a file in the tree; "" when it can.
func unfit(name string) string {
	switch {
	case len(name) > maxName:
		return "the name is too long"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return "the name has characters that are not allowed"
	case !filepath.IsLocal(name) || filepath.Clean(name) != name || name == ".":
		return "leads out of the tree"
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.EqualFold(part, ".git") {
			return "leads into a .git folder"
		}
	}
	return ""
}
