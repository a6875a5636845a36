package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
)

const root = "/proc/sys"

// Get reads a sysctl. Runs of white space come back as one space.
func Get(name string) (string, error) {
	path, err := Path(name)
	if err != nil {
		return "", err
	}
	value, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return "", failed("read", path, err)
	}
	return tidy(string(value)), nil
}

// Set writes a sysctl, always: for some of them writing the value that is
// already there has effects. It does not read back; [Apply] does.
func Set(name, value string) error {
	path, err := Path(name)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(root, path), os.O_WRONLY, 0)
	if err != nil {
		return failed(fmt.Sprintf("write %q to", value), path, err)
	}
	_, err = file.WriteString(value + "\n")
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return failed(fmt.Sprintf("write %q to", value), path, err)
	}
	return nil
}

// Writable finds out whether a sysctl could be written, by opening it and
// writing nothing. It cannot see everything: root without CAP_NET_ADMIN opens
// net/ipv4/ip_forward and is refused at the write.
func Writable(name string) error {
	path, err := Path(name)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(root, path), os.O_WRONLY, 0)
	if err != nil {
		return failed("open for writing", path, err)
	}
	return file.Close()
}

// Fixed says whether the kernel shows a sysctl to this network namespace and
// lets nobody in it write it, as some that belong to the whole machine.
func Fixed(name string) bool {
	path, err := Path(name)
	if err != nil {
		return false
	}
	info, err := os.Stat(filepath.Join(root, path))
	return err == nil && info.Mode().Perm()&0o222 == 0
}

// children lists what stands in a folder of /proc/sys, in name order.
func children(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		return nil, failed("list", dir, err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}
