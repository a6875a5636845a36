package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxLinks bounds the links on the way to a file, as the kernel does.
const maxLinks = 40

// trust judges who can write files.
type trust struct {
	owners []uint32
	// unmapped is the owner that a user namespace shows for all users that it
	// does not have. Such a root is none: files of the real one look like this.
	unmapped bool
	good     map[string]bool // folders that were looked at
}

// newTrust trusts root, and the user who has become root by sudo(8): whoever
// may do that needs no file for it.
func newTrust(sudoUID string) *trust {
	t := &trust{owners: []uint32{0}, good: map[string]bool{}}
	if uid, err := strconv.ParseUint(sudoUID, 10, 32); err == nil {
		t.owners = append(t.owners, uint32(uid))
	}
	// Inside, outside, how many: the machine's own namespace has all.
	ids, err := os.ReadFile("/proc/self/uid_map")
	t.unmapped = err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
	return t
}

func (t *trust) trusts(owner uint32) bool {
	for _, o := range t.owners {
		if owner == o {
			return true
		}
	}
	const nobody = 65534 // fs.overflowuid, unless somebody has changed it
	return t.unmapped && owner == nobody
}

// judge walks to a file as the kernel does. What cannot be looked at is not
// judged: it could not have been read either.
func (t *trust) judge(name string) *untrusted {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil
	}
	todo := strings.Split(strings.TrimPrefix(abs, "/"), "/")
	links := 0
	for dir := "/"; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		if next == "" || next == "." {
			continue
		}
		if next == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		entry := filepath.Join(dir, next)
		info, err := os.Lstat(entry)
		if err != nil {
			return nil
		}
		if bad := t.holder(dir, entry, info); bad != nil {
			bad.file = name
			return bad
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(entry)
			if links++; err != nil || links > maxLinks {
				return nil
			}
			if filepath.IsAbs(target) {
				dir = "/"
			}
			todo = append(strings.Split(target, "/"), todo...)
		case info.IsDir():
			dir = entry
		default:
			bad := t.writable(entry, info)
			if bad != nil {
				bad.file = name
				if links == 0 {
					bad.object, bad.mend = name, strings.Replace(bad.mend, quoted(entry), quoted(name), 1)
				}
			}
			return bad
		}
	}
	return nil
}

// holder judges the folder that an entry is in: who can write a folder can put
// another entry in the place of this one. In a sticky one, such as /tmp, only
// the owner of the entry and that of the folder can.
func (t *trust) holder(dir, entry string, in fs.FileInfo) *untrusted {
	sticky := false
	if !t.good[dir] {
		info, err := os.Lstat(dir)
		if err != nil {
			return nil
		}
		if sticky = info.Mode()&fs.ModeSticky != 0; sticky {
			if bad := t.owned(dir, info); bad != nil {
				return bad
			}
		} else if bad := t.writable(dir, info); bad != nil {
			return bad
		}
		t.good[dir] = !sticky
	}
	if sticky || in.Mode()&fs.ModeSymlink != 0 {
		return t.owned(entry, in)
	}
	return nil
}

func (t *trust) owned(path string, info fs.FileInfo) *untrusted {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || t.trusts(stat.Uid) {
		return nil
	}
	return &untrusted{object: path, why: fmt.Sprintf("it belongs to user %d", stat.Uid), mend: "chown -h root " + quoted(path)}
}

// writable judges a file or folder by its owner and mode.
func (t *trust) writable(path string, info fs.FileInfo) *untrusted {
	if bad := t.owned(path, info); bad != nil {
		return bad
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case !ok || mode&0o022 == 0:
		return nil
	case mode&0o002 != 0:
		return &untrusted{object: path, why: fmt.Sprintf("everybody can write it (mode %04o)", mode), mend: "chmod go-w " + quoted(path)}
	case stat.Gid != 0:
		return &untrusted{object: path, why: fmt.Sprintf("the group %d can write it (mode %04o)", stat.Gid, mode), mend: "chmod go-w " + quoted(path)}
	case listed(path):
		// The bits of the group are the mask of the list: acl(5).
		return &untrusted{object: path, why: fmt.Sprintf("its access control list lets others write it (mode %04o)", mode), mend: "chmod go-w " + quoted(path)}
	}
	return nil
}

// listed says whether a file has an access control list.
func listed(path string) bool {
	n, err := syscall.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

// quoted is a path as a shell takes it.
func quoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || bytes.ContainsRune([]byte("/._-+:,@"), r)
	}
	if path[0] != '-' && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	if path[0] == '-' {
		path = "./" + path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
