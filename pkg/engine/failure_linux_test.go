package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipmasq/ipmasq/pkg/backend"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/plan"
	"github.com/ipmasq/ipmasq/pkg/state"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
	"golang.org/x/sys/unix"
)

var errInjected = errors.New("injected")

// Two faults after which not everything can be looked at.
const (
	vanished     = "the state folder vanishes before the last write"
	noCapability = "the capability is missing"
)

// fault breaks something on an engine's way, and gives what mends it.
type fault struct {
	name string
	want error
	put  func(t *testing.T, b *bench) (mend func())
}

// after runs break when a step is done.
func (b *bench) after(step string, broken func()) {
	b.Step = func(name string, _ time.Duration) {
		if name == step && broken != nil {
			broken()
			broken = nil
		}
	}
}

func readOnly(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatal(err)
	}
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// fill leaves no room in the state folder, which is a file system of its own.
func fill(t *testing.T, dir string) {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func applyFaults() []fault {
	return []fault{
		{"the kernel refuses a rule", &backend.Refused{}, func(t *testing.T, b *bench) func() {
			b.hook.commit = func(commit func(*plan.Changes) error, c *plan.Changes) error { return commit(withNonsense(c)) }
			return nil
		}},
		{"the commit fails", errInjected, func(t *testing.T, b *bench) func() {
			b.hook.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
			return nil
		}},
		{"the kernel holds something else", engine.ErrUnverified, func(t *testing.T, b *bench) func() {
			b.after("commit", func() { b.host.Run(t, "nft", "insert rule inet ipmasq forward drop") })
			return nil
		}},
		{"reading back fails", errInjected, func(t *testing.T, b *bench) func() {
			b.after("commit", func() {
				b.hook.have = func(s *plan.Snapshot) (*plan.Snapshot, error) { b.hook.have = nil; return nil, errInjected }
			})
			return nil
		}},
		{"/proc/sys is read-only from the start", sysctl.ErrReadOnly, func(t *testing.T, b *bench) func() {
			readOnly(t, "/proc/sys")
			return func() { unmount(t, "/proc/sys") }
		}},
		{"/proc/sys becomes read-only after the commit", sysctl.ErrReadOnly, func(t *testing.T, b *bench) func() {
			b.after("read back", func() { readOnly(t, "/proc/sys") })
			return func() { unmount(t, "/proc/sys") }
		}},
		{"the disk is full from the start", syscall.ENOSPC, func(t *testing.T, b *bench) func() {
			fill(t, b.dir)
			return func() { os.Remove(filepath.Join(b.dir, "filler")) }
		}},
		{vanished, fs.ErrNotExist, func(t *testing.T, b *bench) func() {
			b.after("sysctls", func() {
				if err := unix.Mount("tmpfs", b.dir, "tmpfs", 0, "mode=700"); err != nil {
					t.Error(err)
				}
			})
			return func() { unmount(t, b.dir) }
		}},
		{"the state folder is read-only from the start", syscall.EROFS, func(t *testing.T, b *bench) func() {
			readOnly(t, b.dir)
			return func() { unmount(t, b.dir) }
		}},
		{noCapability, fs.ErrPermission, func(t *testing.T, b *bench) func() {
			dropNetAdmin(t)
			return nil
		}},
	}
}

// withNonsense gives changes of which the kernel will refuse one rule.
func withNonsense(c *plan.Changes) *plan.Changes {
	to := *c.To
	to.Chains = append([]plan.Chain(nil), to.Chains...)
	for _, ch := range c.Chains {
		if ch.To >= 0 && len(to.Chains[ch.To].Rules) > 0 {
			rules := append([]plan.Rule(nil), to.Chains[ch.To].Rules...)
			rules[0].Body = []byte{8, 0, 4, 0x80, 4, 0, 1, 0} // an expression without a name
			to.Chains[ch.To].Rules = rules
			break
		}
	}
	out := *c
	out.To = &to
	return &out
}

// dropNetAdmin takes CAP_NET_ADMIN from this thread.
func dropNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

// A step that fails leaves things as they were, wherever it is: on a fresh
// host, and on one where another policy is in force; and what failed once
// works when the reason is gone.
func TestApplyFailsWhole(t *testing.T) {
	for _, f := range applyFaults() {
		for _, start := range []string{"", policyA} {
			name := f.name + " on a fresh host"
			if start != "" {
				name = f.name + " over another policy"
			}
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				onOwnThread(func() { b.failWhole(t, f, start) })
				b.hook.commit, b.hook.have, b.Step = nil, nil, nil
				b.mustApply(policyB)
				if !b.inForce(policyB) {
					t.Error("the next apply did not lead to its policy")
				}
				b.wantSysctl("net.ipv4.ip_forward", "1")
				b.mustDelete()
				b.wantSysctl("net.ipv4.ip_forward", "0")
			})
		}
	}
}

// failWhole runs on a thread of its own, with mounts of its own.
func (b *bench) failWhole(t *testing.T, f fault, start string) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Error(err)
		return
	}
	if err := unix.Mount(b.dir, b.dir, "", unix.MS_BIND, ""); err != nil {
		t.Error(err)
		return
	}
	if start != "" {
		if _, err := b.apply(start); err != nil {
			t.Error(err)
			return
		}
		// Forwarding that is to be turned on again is a step that can fail.
		b.host.Sysctl("net.ipv4.ip_forward", "0")
	}
	if f.want == error(syscall.ENOSPC) {
		smallDisk(t, b.dir)
	}
	before, commits := b.world(), b.hook.commits
	mend := f.put(t, b)
	_, err := b.apply(policyB)
	if b.hook.commits != commits && strings.HasSuffix(f.name, "from the start") {
		t.Error("what could be known before the commit was found out after it")
	}
	b.Step, b.hook.commit, b.hook.have = nil, nil, nil
	if mend != nil {
		mend()
	}
	var refused *backend.Refused
	if _, ok := f.want.(*backend.Refused); ok {
		if !errors.As(err, &refused) {
			t.Errorf("got %v, want a refusal", err)
		}
	} else if !errors.Is(err, f.want) {
		t.Errorf("got %v, want %v", err, f.want)
	}
	switch f.name {
	case noCapability: // which nft lacks then, too
	case vanished: // and with it the chance to forget
		after := b.world()
		before.State, after.State = "", ""
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("things are not as they were (-before +after):\n%s", diff)
		}
	default:
		b.wantWorld(before)
	}
	if f.want == error(syscall.ENOSPC) {
		keepDisk(t, b.dir)
	}
}

// smallDisk moves the state folder to a file system with little room.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	small := dir + ".small"
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, dir, small)
	if err := unix.Mount(small, dir, "", unix.MS_MOVE, ""); err != nil {
		t.Fatal(err)
	}
}

// keepDisk moves the files back, for what comes after the thread's mounts.
func keepDisk(t *testing.T, dir string) {
	t.Helper()
	kept := dir + ".kept"
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	copyFiles(t, dir, kept)
	unmount(t, dir)
	copyFiles(t, kept, dir)
}

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// All that needs room on the disk is written before the kernel is touched, and
// what has to be written again afterwards takes the room of what it replaces.
func TestFullDiskAfterStaging(t *testing.T) {
	b := newBench(t)
	onOwnThread(func() {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		smallDisk(t, b.dir)
		b.after("commit", func() {
			b.host.Run(t, "nft", "add table ip foreign") // a generation to be noted anew
			fill(t, b.dir)
		})
		if _, err := b.apply(policyA); err != nil {
			t.Error(err)
		}
		if s, err := b.State.Load(); err != nil || s.Applied == nil || s.Generation != b.generation() {
			t.Errorf("the state is %+v, %v", s, err)
		}
	})
}

// "1 failed, and the kernel is as it was" holds for delete too: without its
// rules removed, the gateway has to go on forwarding.
func TestDeleteFailsWhole(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	before := b.world()
	b.hook.commit = func(func(*plan.Changes) error, *plan.Changes) error { return errInjected }
	if _, err := b.Delete(context.Background(), false); !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
	b.wantWorld(before)
	b.hook.commit = nil
	b.mustDelete()
	b.wantSysctl("net.ipv4.ip_forward", "0")
}

// A state that cannot be believed is not guessed at, and the error says the
// way on, which then works.
func TestCorruptState(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	path := filepath.Join(b.dir, "state.json")
	if err := os.WriteFile(path, []byte(`{"format_version": 1, "appl`), 0o600); err != nil {
		t.Fatal(err)
	}
	before := b.world()
	for name, do := range map[string]func() error{
		"apply":  func() error { _, err := b.apply(policyB); return err },
		"plan":   func() error { _, err := b.Plan(context.Background(), parse(t, policyB)); return err },
		"status": func() error { _, err := b.Status(context.Background()); return err },
		"delete": func() error { _, err := b.Delete(context.Background(), false); return err },
	} {
		var corrupt *state.CorruptError
		if err := do(); !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: got %v, want a corrupt state and the way on", name, err)
		}
	}
	b.wantWorld(before)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	b.mustApply(policyB)
	if !b.inForce(policyB) {
		t.Error("the way on does not lead to the policy")
	}
}

// The rules do not depend on the state: where it is lost, apply goes on from
// what the kernel has.
func TestLostState(t *testing.T) {
	for _, next := range []string{policyA, policyB} {
		b := newBench(t)
		b.mustApply(policyA)
		if err := os.RemoveAll(b.dir); err != nil {
			t.Fatal(err)
		}
		b = benchOn(t, b.host, b.dir)
		b.mustApply(next)
		if !b.inForce(next) {
			t.Error("the policy is not in force")
		}
		s, err := b.State.Load()
		if err != nil || s.Applied == nil || s.Rules == "" {
			t.Errorf("nothing is remembered: %+v, %v", s, err)
		}
	}
}

// A delete without a state must remove the rules, and say what it cannot do.
func TestDeleteWithoutState(t *testing.T) {
	b := newBench(t)
	b.mustApply(policyA)
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	b = benchOn(t, b.host, b.dir)
	d := b.mustDelete()
	if d.Forgotten == nil || !d.StillForwards {
		t.Errorf("delete says nothing of what it left: %+v", d)
	}
	if left := b.world().Rules; left != "" {
		t.Errorf("left behind:\n%s", left)
	}

	// A policy that is stored no more must not make the rules undeletable.
	b.mustApply(policyA)
	stored, err := filepath.Glob(filepath.Join(b.dir, "policy-*"))
	if err != nil || len(stored) != 1 {
		t.Fatal(stored, err)
	}
	if err := os.Remove(stored[0]); err != nil {
		t.Fatal(err)
	}
	if d := b.mustDelete(); !errors.Is(d.Forgotten, fs.ErrNotExist) {
		t.Errorf("delete says nothing of the lost policy: %+v", d)
	}
}
