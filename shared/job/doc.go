// Package job is the part of Kernelflow on a job's machine: it runs the script
// of one job, keeps its log, and reports what came of it through the HTTP API.
//
// A runtime makes a job's folder with [Prepare] and starts a supervisor on it,
// a process whose main is [Run]. The folder is all they share:
//
//	job.json     what to do (mode 0600, it holds the job's token); removed once reported
//	script.sh    the job, a POSIX shell script
//	state.json   how far it is
//	lock         held (flock) by the supervisor, with its process id
//	cancel       present when somebody wants the job stopped
//	report.json  what is being reported; removed once reported
//	log/         stdout and stderr of the script
//	scratch/     the script's own folders; removed once reported
//
// # What a script gets and gives
//
// It runs in an empty folder with stdin closed and with these variables only:
// PATH, HOME and KCI_WORK (that folder), LANG=C.UTF-8, TMPDIR, KCI_NODE_ID,
// KCI_API_URL, KCI_STORAGE_URL, KCI_API_TOKEN (good for this node alone),
// KCI_RESULTS, and those that the runtime's configuration passes through. In
// $KCI_RESULTS it may leave:
//
//	NAME.ktap       test results (see package ktap): a child node NAME of kind
//	                test, with a node below it for each case
//	artifacts/NAME  a regular file, uploaded as artifact NAME of the node
//	data.json       an object, put into the node's data
//	error           a text that says why it did not pass
//
// Exit status 0 is pass, unless a test failed; 77 is skip; 75 is incomplete by
// the fault of the machine or network; any other is fail. Death by a signal,
// a lapsed time limit, a cancelled job and a test run that broke off (a plan
// not kept, no plan, "Bail out!") are incomplete, with error_code and error_msg
// in the node's data. A kbuild that passes becomes available, everything else
// done. The log is artifact "log" whatever happens, also of
// a job whose node somebody else has ended.
//
// Where no supervisor can be, [Portable] takes its place: a program for a POSIX
// shell with curl, for which a script is the same. What it cannot do as well: a
// name of an artifact may have letters, digits and "._+-" only, and is not looked
// at for the token, nor is the artifact; of a script that exits with a status of
// 129 to 192 it thinks that a signal ended it; and killed before its report it
// leaves the job to whoever asks the runtime for it.
//
// # Why it may be killed at any instant
//
// state.json goes ready, running, ended, reported, and each step is on disk
// before what follows it is done. The script starts after "running" is written,
// so that it never starts twice: a supervisor that finds "running" knows that
// its forerunner died, kills what is left of the script and reports the job
// incomplete. One that finds "ended" goes on with the report. The report's body
// is written down before it is sent and sent unchanged until it is accepted, so
// that the API can tell a repetition from a second report. Uploads replace what
// an earlier attempt left. A second supervisor does not get the lock and ends.
// When the machine itself went down between the script's end and the report,
// its results may not have reached the disk: the job is incomplete.
//
// # What a script cannot do
//
// It cannot outlive its limit: its process group is killed, and then whatever
// else on the machine carries its KCI_RESULTS in its environment. It cannot fill
// the disk with its log, block on it, or hold the supervisor up by a process in
// the background that keeps its output open. Links in $KCI_RESULTS are not
// followed and only regular files are read. Its token is blanked out in the log,
// in uncompressed artifacts and in everything that is reported, as it is written
// there: a script that encodes it gives its own node away, and that alone.
//
// # Decisions
//
// A supervisor process for each job, rather than goroutines of the emulator:
// jobs outlive a restart, and a crash of one touches no other. The price is some
// megabytes for each running job; a runtime starts it when the job's turn comes.
//
// The log goes through the supervisor, rather than straight into a file: only
// so can it be capped and the token be kept out. The price is that the output of
// a script whose supervisor was killed ends there.
//
// No isolation: the script has the user's rights. Who may add jobs to the
// configuration may run code as that user; another runtime (docker, kubernetes)
// is the answer where that is too much.
package job
