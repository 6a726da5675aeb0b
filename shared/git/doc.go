// Package git drives the git command: heads of branches, one bare mirror per
// tree, what a commit is called, and its source as a compressed archive. There
// is never a work tree. It is the only door to git and to parallel gzip.
//
// [Git.Heads] asks a server for the heads of any number of branches in one
// call. [Git.Fetch] brings one commit into the tree's mirror and returns a
// [Snapshot], which is read ([Snapshot.Revision], [Snapshot.Archive]), patched
// if need be ([Snapshot.Apply]), and then closed.
//
// # Promises
//
//   - git sees no configuration, hook, template, attribute file or password
//     prompt of this machine, only the protocols https, http, git and ssh
//     (and file, when allowed), and no argument that could be read as an
//     option. Of the environment it gets what reaching a server takes.
//   - When the context ends, git and its children are killed.
//   - Any number of goroutines and processes may use one folder of mirrors.
//   - Whatever a killed process left in a mirror, the next Fetch mends: stale
//     lock files and half-written packs are removed, and a damaged mirror is
//     made anew.
//   - The same commit and prefix give the same bytes of archive, on any
//     machine with the same version of git.
//   - An error carries git's own reason with passwords in URLs blotted out,
//     and an errs kind: Invalid (an address or name that cannot be right),
//     Denied (the server wants other credentials), NotFound (no such
//     repository, branch or commit), else Temporary.
//
// # Decisions
//
// The command rather than a library: go-git reads a kernel tree many times
// slower, and whoever runs this has git at hand. The price is that errors are
// told apart by their text, which LC_ALL=C holds still.
//
// One lock per mirror (flock on a file beside it): exclusive while fetching,
// shared while a Snapshot is open. git inherits the locked file, so that a
// mirror whose owner was killed becomes free only when the orphaned git has
// ended too. The price: one fetch waits for the archives of the same tree, and
// this package needs a Unix.
//
// Patches are applied by git to an index of their own, whose new objects lie
// beside the mirror and find the rest in it: a mirror holds only what its server
// has, however many patches are tried. What a killed process left there goes with
// the next Fetch.
//
// A mirror holds the branches that were asked for and all tags, with their
// whole history: describing a commit needs it. The remote's name is not kept
// in the mirror, so no password reaches its configuration. Branches lie under
// escaped names, because "a" may become "a/b" upstream and git cannot hold
// both.
package git
