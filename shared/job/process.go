package job

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process names one process for good: process ids are used again, but not with
// the same start time in the same boot of the machine.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since boot, from /proc
	Boot  string `json:"boot"`
}

func identify(pid int) process {
	return process{PID: pid, Start: startTime(pid), Boot: bootID()}
}

// running says whether the process is still there. Without /proc nobody can
// tell, and the answer is no.
func (p process) running() bool {
	return p.PID > 1 && p.Start != "" && p == identify(p.PID)
}

// terminate sends SIGTERM, if the process is still there.
func (p process) terminate() error {
	// The handle is of whatever has the id now; that it is ours is checked
	// with the handle in hand, so that a later owner of the id is safe.
	handle, err := os.FindProcess(p.PID)
	if err != nil || !p.running() {
		return err
	}
	if err := handle.Signal(syscall.SIGTERM); err != nil && p.running() {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// killGroup sends sig to every process of the group. That nobody is left is no
// error, and there is nothing to be done about one that may not be signalled.
func killGroup(pgid int, sig syscall.Signal) { _ = syscall.Kill(-pgid, sig) }

// maxSweeps bounds how often killMarked looks for processes that were forked
// while it looked.
const maxSweeps = 20

// killMarked kills every process that has the variable in its environment,
// whatever its process group: a daemon is found by what it inherited.
func killMarked(variable string) {
	for range maxSweeps {
		found := marked(variable)
		if len(found) == 0 {
			return
		}
		for _, pid := range found {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func marked(variable string) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []int
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err == nil && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// startTime is field 22 of /proc/PID/stat. Field 2, the program's name, is in
// brackets and may hold anything.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
