package compile_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// TestGoldensLoad gives every golden to nft(8) in a network namespace of its
// own. On a desk where that is not possible it is skipped; with CI set it
// fails.
func TestGoldensLoad(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		nft = "/usr/sbin/nft"
	}
	if out, err := inNamespace(nft, "list", "ruleset").CombinedOutput(); err != nil {
		lab.Lacking(t, "no nft in a namespace: %v: %s", err, out)
	}
	names, err := filepath.Glob("testdata/*.nft")
	if err != nil || len(names) < 25 {
		t.Fatalf("%d goldens (%v)", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			out, err := inNamespace(nft, "-f", name).CombinedOutput()
			if golden, _ := os.ReadFile(name); bytes.Contains(golden, []byte("\tflowtable ")) && !bytes.Contains(out, []byte("syntax")) {
				return // its devices are not there, and a kernel may have none of these
			}
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func inNamespace(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return c
}
