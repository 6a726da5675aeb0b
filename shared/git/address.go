package git

import (
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kernelflow/kernelflow/shared/errs"
)

var remoteSchemes = []string{"https", "http", "git", "ssh"}

const maxName = 1024 // bytes of an address or branch

// checkURL refuses what git would take for an option, another transport or
// another command.
func (g *Git) checkURL(address string) error {
	bad := func(why string) error {
		return errs.New(errs.Invalid, "url %.200q: %s", redact(address), why)
	}
	if address == "" || len(address) > maxName || strings.HasPrefix(address, "-") || strings.ContainsFunc(address, blankOrControl) {
		return bad("must be 1 to 1024 bytes without blanks, not starting with -")
	}
	if filepath.IsAbs(address) {
		return g.checkLocal(bad)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return bad("is not a URL")
	case u.Scheme == "file" && u.Host == "" && u.Path != "":
		return g.checkLocal(bad)
	case !slices.Contains(remoteSchemes, u.Scheme):
		return bad("must start with " + strings.Join(remoteSchemes, "://, ") + "://")
	case u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-"):
		return bad("names no host")
	}
	return nil
}

func (g *Git) checkLocal(bad func(string) error) error {
	if !g.allowLocal {
		return bad("trees on this machine are not allowed here")
	}
	return nil
}

func blankOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

// checkBranch applies git's own rules for the name of a branch.
func checkBranch(branch string) error {
	bad := branch == "" || len(branch) > maxName || branch == "@" ||
		strings.HasPrefix(branch, "-") || strings.HasSuffix(branch, ".") ||
		strings.Contains(branch, "..") || strings.Contains(branch, "@{") ||
		strings.ContainsFunc(branch, func(r rune) bool { return blankOrControl(r) || strings.ContainsRune(`~^:?*[\`, r) })
	for part := range strings.SplitSeq(branch, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return errs.New(errs.Invalid, "branch %.200q: is not a name that a git branch can have", branch)
	}
	return nil
}

var commitForm = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func checkCommit(commit string) error {
	if !commitForm.MatchString(commit) {
		return errs.New(errs.Invalid, "commit %.80q: must be the whole id, 40 or 64 hex digits in lower case", commit)
	}
	return nil
}

var abbreviationForm = regexp.MustCompile(`^[0-9a-f]{7,64}$`)

func checkAbbreviation(commit string) error {
	if !abbreviationForm.MatchString(commit) {
		return errs.New(errs.Invalid, "commit %.80q: must be an id or the first digits of one, 7 or more hex digits in lower case", commit)
	}
	return nil
}

var credentials = regexp.MustCompile(`://[^/\s@]*@`)

// redact blots out the user and password of every URL in text.
func redact(text string) string { return credentials.ReplaceAllString(text, "://***@") }

var unfit = regexp.MustCompile(`[^A-Za-z0-9]+`)

// label is a readable part of the name of a tree's mirror: the last two
// elements of its path.
func label(address string) string {
	p := address
	if u, err := url.Parse(address); err == nil {
		p = u.Path
	}
	p = strings.TrimSuffix(path.Clean("/"+p), ".git")
	l := path.Base(path.Dir(p)) + "-" + path.Base(p)
	l = strings.Trim(unfit.ReplaceAllString(l, "-"), "-")
	return l[:min(len(l), 60)]
}
