package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/rogpeppe/go-internal/testscript"
)

// guardsOf are the processes that guard a state folder.
func guardsOf(dir string) (pids []int) {
	folder, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		words, _ := os.ReadFile(path)
		if !bytes.Contains(words, []byte("\x00guard\x00--id\x00")) {
			continue
		}
		// It holds the folder open.
		open, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "fd/5"))
		for _, fd := range open {
			if info, err := os.Stat(fd); err == nil && os.SameFile(info, folder) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// until waits for what comes about soon, by itself.
func until(ok func() bool) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

// scriptGuards is guards N: so many processes guard the policy, at once or soon.
func scriptGuards(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "guards N")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	dir := ts.Getenv("STATE_DIRECTORY")
	if !until(func() bool { return len(guardsOf(dir)) == n }) {
		ts.Fatalf("%d guards, want %d", len(guardsOf(dir)), n)
	}
}

// scriptAwaitConfirmed waits until no policy waits any more.
func scriptAwaitConfirmed(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "await-confirmed")
	dir, err := state.Open(ts.Getenv("STATE_DIRECTORY"))
	ts.Check(err)
	if !until(func() bool { s, err := dir.Load(); return err == nil && s.Unconfirmed == nil }) {
		ts.Fatalf("the policy still waits")
	}
}

// scriptOtherBoot is other-boot: the state is of the boot before.
func scriptOtherBoot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "other-boot")
	dir, err := state.Open(ts.Getenv("STATE_DIRECTORY"))
	ts.Check(err)
	s, err := dir.Load()
	ts.Check(err)
	const boot = "00000000-0000-0000-0000-000000000000"
	s.NetNS = "4026531833:4:1@" + boot
	if s.Unconfirmed != nil {
		s.Unconfirmed.Boot = boot
	}
	ts.Check(dir.Save(*s))
}
