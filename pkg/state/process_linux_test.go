package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// The tests below need second processes: this binary, told by a variable to
// play one part on a state folder.
const (
	part       = "IPMASQ_TEST_PART"
	partFolder = "IPMASQ_TEST_FOLDER"
)

func TestMain(m *testing.M) {
	play := map[string]func(*Dir) error{"hold": holdLock, "count": countUp, "save": saveForEver}[os.Getenv(part)]
	if play == nil {
		os.Exit(m.Run())
	}
	d, err := Open(os.Getenv(partFolder))
	if err == nil {
		err = play(d)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start starts a process that plays a part, and kills it with the test.
func start(t *testing.T, d *Dir, play string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "apply", "policy.yaml")
	cmd.Env = append(os.Environ(), part+"="+play, partFolder+"="+d.Path())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	_, err = cmd.StdinPipe() // open until the test ends
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

// holdLock takes the lock, says so, and sleeps on it.
func holdLock(d *Dir) error {
	if _, err := d.Lock(context.Background(), nil); err != nil {
		return err
	}
	fmt.Println("locked")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

func TestLockWaitsForAnotherProcess(t *testing.T) {
	d := openDir(t)
	cmd, out := start(t, d, "hold")
	if line, err := out.ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	var told []string
	onWait := func(holder string) { told = append(told, holder) }
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err := d.Lock(ctx, onWait)
	who := fmt.Sprintf("pid %d (exe apply policy.yaml)", cmd.Process.Pid)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "held by "+who) || !strings.Contains(err.Error(), d.Path()) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(told, []string{who}) {
		t.Errorf("told %q", told)
	}
	// A holder that is killed leaves nothing that has to be cleared away.
	waited := make(chan error, 1)
	go func() {
		unlock, err := d.Lock(context.Background(), nil)
		if err == nil {
			unlock()
			unlock()
		}
		waited <- err
	}()
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	select {
	case err := <-waited:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("the lock of a dead process holds on")
	}
}

func TestLockWithinOneProcess(t *testing.T) {
	d := openDir(t)
	unlock, err := d.Lock(t.Context(), func(string) { t.Error("waited for nobody") })
	must(t, err)
	text, err := os.ReadFile(filepath.Join(d.Path(), lockName))
	must(t, err)
	if !strings.HasPrefix(string(text), "pid "+strconv.Itoa(os.Getpid())+" (") {
		t.Errorf("lock says %q", text)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Lock(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock()
	// A free lock needs no time, so an ended context does not matter.
	unlock, err = d.Lock(cancelled, nil)
	must(t, err)
	unlock()
}

// countUp adds one to a number in a file a hundred times, as only one process
// at a time may.
func countUp(d *Dir) error {
	for range 100 {
		unlock, err := d.Lock(context.Background(), nil)
		if err != nil {
			return err
		}
		path := filepath.Join(d.Path(), "number")
		text, _ := os.ReadFile(path)
		n, _ := strconv.Atoi(string(text))
		err = os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600)
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func TestLockExcludes(t *testing.T) {
	d := openDir(t)
	var all []*exec.Cmd
	for range 4 {
		cmd, _ := start(t, d, "count")
		all = append(all, cmd)
	}
	for _, cmd := range all {
		must(t, cmd.Wait())
	}
	if text, _ := os.ReadFile(filepath.Join(d.Path(), "number")); string(text) != "400" {
		t.Errorf("counted to %s, not 400", text)
	}
}

// saveForEver saves states whose two policies belong together.
func saveForEver(d *Dir) error {
	fmt.Println("saving")
	for i := 0; ; i++ {
		unlock, err := d.Lock(context.Background(), nil)
		if err != nil {
			return err
		}
		var s State
		for _, at := range []**Applied{&s.Applied, &s.Previous} {
			name := fmt.Sprint(i)
			digest, err := d.SavePolicy([]Source{{Name: name, Text: []byte(strings.Repeat(name+"\n", 1000))}})
			if err != nil {
				return err
			}
			*at = &Applied{Digest: digest, Time: time.Unix(int64(i)+1, 0), Files: []File{{Name: name}}}
		}
		if err := d.Save(s); err != nil {
			return err
		}
		unlock()
	}
}

func TestKillWhileSaving(t *testing.T) {
	d := openDir(t)
	for round := range 25 {
		cmd, out := start(t, d, "save")
		if line, err := out.ReadString('\n'); line != "saving\n" {
			t.Fatal(line, err)
		}
		time.Sleep(time.Duration(round*371%5000) * time.Microsecond)
		must(t, cmd.Process.Kill())
		cmd.Wait()
		s := load(t, d)
		if s.Applied == nil {
			continue // killed before the first
		}
		if s.Previous.Files[0] != s.Applied.Files[0] {
			t.Fatalf("half of one, half of another: %+v, %+v", s.Applied, s.Previous)
		}
		sources, err := d.LoadPolicy(s.Applied.Digest)
		must(t, err)
		if sources[0].Name != s.Applied.Files[0].Name {
			t.Fatalf("policy %s for state %s", sources[0].Name, s.Applied.Files[0].Name)
		}
	}
	s := load(t, d)
	must(t, d.Save(s))
	for _, name := range files(t, d) {
		if strings.Contains(name, temporary) {
			t.Errorf("%s was left", name)
		}
	}
}

// onTinyDisk runs a test again in a mount namespace, with 64 KiB of tmpfs at
// folder.
func onTinyDisk(t *testing.T, test func(t *testing.T, folder string)) {
	const marker = "IPMASQ_TEST_TINY_DISK"
	if folder := os.Getenv(marker); folder != "" {
		must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		must(t, syscall.Mount("ipmasq-test", folder, "tmpfs", 0, "size=64k,mode=700"))
		test(t, folder)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), marker+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		lab.Lacking(t, "needs a mount namespace: %v", err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

// fill leaves so many bytes free, or nothing.
func fill(t *testing.T, path string, free int) {
	t.Helper()
	file, err := os.Create(path)
	must(t, err)
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	end, err := file.Seek(0, io.SeekEnd)
	must(t, err)
	must(t, file.Truncate(max(0, end-int64(free))))
}

func TestFullDisk(t *testing.T) {
	onTinyDisk(t, func(t *testing.T, folder string) {
		d, err := Open(filepath.Join(folder, "state"))
		must(t, err)
		must(t, d.create())
		old := example(t, d)
		unlock, err := d.Lock(t.Context(), nil)
		must(t, err)
		unlock()
		must(t, d.Save(old))
		next := old
		for i := range 200 { // 16 KiB of state
			next.Sysctls = append(next.Sysctls, Sysctl{Name: fmt.Sprintf("net/ipv4/conf/eth%d/forwarding", i), Before: "0", After: "1"})
		}
		filler := filepath.Join(folder, "filler")
		for free := 0; free < 24<<10; free += 4096 {
			must(t, d.Save(old))
			before := files(t, d)
			fill(t, filler, free)

			staged, err := d.Stage(next)
			if err != nil {
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), d.Path()) || !strings.Contains(err.Error(), "make room there") {
					t.Errorf("%d bytes free: %v", free, err)
				}
				if got := load(t, d); !reflect.DeepEqual(got, old) {
					t.Errorf("%d bytes free: the state is %+v", free, got)
				}
				if got := files(t, d); !slices.Equal(got, before) {
					t.Errorf("%d bytes free: left %v", free, got)
				}
			} else {
				must(t, staged.Commit()) // what was staged cannot fail for want of room
				if got := load(t, d); len(got.Sysctls) != len(next.Sysctls) {
					t.Errorf("%d bytes free: the state is %+v", free, got)
				}
			}
			if free == 0 {
				if err == nil {
					t.Error("staged on a full disk")
				}
				if _, err := d.SavePolicy(large()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "policy-") {
					t.Errorf("SavePolicy: %v", err)
				}
				unlock, err := d.Lock(t.Context(), nil)
				must(t, err) // a full disk must not stop a delete
				unlock()
				if got := files(t, d); !slices.Equal(got, before) {
					t.Errorf("left %v", got)
				}
			}
			must(t, os.Remove(filler))
		}
		fill(t, filler, 0)
		must(t, d.Remove())
	})
}

func TestReadOnlyDisk(t *testing.T) {
	onTinyDisk(t, func(t *testing.T, folder string) {
		d, err := Open(filepath.Join(folder, "state"))
		must(t, err)
		must(t, d.create())
		s := example(t, d)
		must(t, d.Save(s))
		must(t, syscall.Mount("", folder, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=64k"))
		d, err = Open(d.Path())
		must(t, err)
		if got := load(t, d); !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v", got)
		}
		_, staging := d.Stage(s)
		_, locking := d.Lock(t.Context(), nil)
		_, saving := d.SavePolicy(large())
		other, err := Open(filepath.Join(folder, "other"))
		must(t, err)
		_, creating := other.Lock(t.Context(), nil)
		for _, err := range []error{staging, locking, saving, creating, d.Remove()} {
			if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), "--state-dir") {
				t.Errorf("got %v", err)
			}
		}
	})
}

// Somebody who is not root meets root's folder.
func TestFolderThatMayNotBeWritten(t *testing.T) {
	d := openDir(t)
	s := example(t, d)
	must(t, d.Save(s))
	must(t, os.Chmod(d.Path(), 0o500))
	if os.Geteuid() == 0 {
		// Of this thread only, which ends with the test.
		runtime.LockOSThread()
		must(t, os.Chmod(d.Path(), 0o755))
		must(t, syscall.Setfsuid(65534))
		defer syscall.Setfsuid(0)
	} else {
		defer os.Chmod(d.Path(), 0o700)
	}
	_, staging := d.Stage(s)
	_, locking := d.Lock(t.Context(), nil)
	_, saving := d.SavePolicy(large())
	other, creating := Open(filepath.Join(d.Path(), "other"))
	if creating == nil {
		_, creating = other.Lock(t.Context(), nil)
	}
	for _, err := range []error{staging, locking, saving, creating, d.Remove()} {
		if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), d.Path()) || !strings.Contains(err.Error(), "--state-dir") {
			t.Errorf("got %v", err)
		}
	}
}
