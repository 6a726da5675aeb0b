package job

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// TryLock takes the lock of a file, which it creates if need be, and returns it
// open; closing it gives the lock back, and so does the end of every process
// that has it. It returns nil when somebody else has the lock.
func TryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, file.Close())
}

// Supervised says whether a supervisor works on the folder's job now.
func Supervised(dir string) bool {
	file, err := TryLock(filepath.Join(dir, lockFile))
	if err != nil || file == nil {
		return err == nil
	}
	// Closing cannot fail in a way that keeps the lock.
	_ = file.Close()
	return false
}

// A lock may be held for an instant by somebody who only looks ([Supervised]), or
// by the script that a killed supervisor was just starting.
const (
	lockTries = 40
	lockPause = 25 * time.Millisecond
)

// supervise takes the folder's lock for this process and leaves its identity in
// it; nil when another supervisor has it.
func supervise(dir string) (file *os.File, err error) {
	if _, err := Load(dir); err != nil {
		return nil, err
	}
	for try := range lockTries {
		if try > 0 {
			time.Sleep(lockPause)
		}
		if file, err = TryLock(filepath.Join(dir, lockFile)); err != nil || file != nil {
			break
		}
	}
	if err != nil || file == nil {
		return nil, err
	}
	self, err := json.Marshal(identify(os.Getpid()))
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(self, 0)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// SlotEnv names the variable that tells a supervisor which of its file
// descriptors is the lock of a runtime's slot. The supervisor gives it back
// when the script has ended: the report needs no slot.
const SlotEnv = "KERNELFLOW_SLOT"

// inheritedSlot returns the slot that this process was started with, or nil. The
// script does not inherit it.
func inheritedSlot() *os.File {
	const fd = 3 // the first of exec.Cmd.ExtraFiles
	if os.Getenv(SlotEnv) != "3" {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(fd, "slot")
}
