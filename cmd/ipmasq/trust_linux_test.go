package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ipmasq/ipmasq/test/lab"
)

// Owners and groups, which only root can give away.
func TestTrust(t *testing.T) {
	const stranger = 12345
	dir := t.TempDir()
	if err := os.Chown(dir, stranger, stranger); err != nil {
		t.Skipf("needs to give files away, as root of the machine: %v", err)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name           string
		file, folder   os.FileMode
		owner, group   int // of the file
		above, aboveBy int // owner and group of its folder
		sudo           string
		want           string // in the reason; "" where it is trusted
	}{
		{"root's", 0o644, 0o755, 0, 0, 0, 0, "", ""},
		{"root's group writes", 0o664, 0o775, 0, 0, 0, 0, "", ""},
		{"a group reads", 0o640, 0o750, 0, stranger, 0, stranger, "", ""},
		{"a group writes", 0o664, 0o755, 0, stranger, 0, 0, "", "the group 12345 can write it (mode 0664)"},
		{"a stranger's", 0o600, 0o755, stranger, 0, 0, 0, "", "it belongs to user 12345"},
		{"a stranger's folder", 0o600, 0o755, 0, 0, stranger, 0, "", "it belongs to user 12345"},
		{"a folder for a group", 0o600, 0o775, 0, 0, 0, stranger, "", "the group 12345 can write it (mode 0775)"},
		{"who called sudo", 0o600, 0o755, stranger, 0, stranger, 0, "12345", ""},
		{"another than who called sudo", 0o600, 0o755, stranger, 0, 0, 0, "12346", "it belongs to user 12345"},
		{"nobody's number", 0o600, 0o755, 65534, 0, 0, 0, "", "it belongs to user 65534"},
		{"a stranger's, in a sticky folder", 0o644, 0o777 | os.ModeSticky, stranger, 0, 0, 0, "", "it belongs to user 12345"},
		{"root's, in a stranger's sticky folder", 0o644, 0o777 | os.ModeSticky, 0, 0, stranger, 0, "", "it belongs to user 12345"},
		{"root's, in a sticky folder", 0o644, 0o777 | os.ModeSticky, 0, 0, 0, 0, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "folder")
			file := filepath.Join(folder, "policy.yaml")
			for _, err := range []error{
				os.Mkdir(folder, 0o700), os.WriteFile(file, nil, 0o600), os.Chown(file, test.owner, test.group), os.Chmod(file, test.file),
				os.Chown(folder, test.above, test.aboveBy), os.Chmod(folder, test.folder),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			got := newTrust(test.sudo).judge(file)
			switch {
			case got == nil && test.want == "":
			case got == nil || test.want == "" || !strings.Contains(got.why, test.want):
				t.Errorf("got %+v, want %q", got, test.want)
			}
			// Through a link of a stranger's, in a folder where anybody may make one.
			shared := t.TempDir()
			link := filepath.Join(shared, "link.yaml")
			for _, err := range []error{os.Chmod(shared, 0o777|os.ModeSticky), os.Symlink(file, link), os.Lchown(link, 4711, 0)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := newTrust(test.sudo).judge(link); got == nil || got.object != link {
				t.Errorf("a stranger's link: %+v", got)
			}
		})
	}
}

// The mode shows the mask of an access control list where the group's bits are.
func TestTrustSeesAccessControlLists(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// acl(5), as the kernel keeps it: version 2, then tag, permissions and ID of each entry.
	list := []byte{2, 0, 0, 0}
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 6, 0}, {4, 4, ^uint32(0)}, {0x10, 6, ^uint32(0)}, {0x20, 4, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	if got := newTrust("").judge(file); got != nil {
		t.Fatalf("without a list: %v", got)
	}
	if err := syscall.Setxattr(file, "system.posix_acl_access", list, 0); err != nil {
		lab.Lacking(t, "needs access control lists: %v", err)
	}
	if got := newTrust("").judge(file); got == nil || !strings.Contains(got.why, "access control list") {
		t.Errorf("with a list: %+v", got)
	}
}
