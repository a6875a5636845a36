package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// seclude gives this process its own /etc, /usr and /var, the peers' files among them, and takes away the settings
// that are the whole machine's. The lab has made mounts private already.
func seclude(peers string) error {
	const upper = "/run/reliability"
	for _, name := range []string{"etc", "usr", "var"} {
		if err := lay(name, peers, upper); err != nil {
			return fmt.Errorf("lay files over /%s: %w", name, err)
		}
	}
	// A peer loads modules that the kernel loads anyway once they are used. Here none does.
	if err := os.WriteFile("/usr/sbin/modprobe", []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		return fmt.Errorf("replace modprobe: %w", err)
	}
	return keepSysctls()
}

// lay mounts an overlay whose changes go to memory.
func lay(name, peers, upper string) error {
	lower := "/" + name
	if peers != "" {
		own, err := filepath.Abs(filepath.Join(peers, name))
		if err != nil {
			return err
		}
		switch _, err := os.Stat(own); {
		case err == nil:
			lower = own + ":" + lower
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	changes, work := filepath.Join(upper, name), filepath.Join(upper, name+".work")
	for _, dir := range []string{changes, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, changes, work)
	err := unix.Mount("overlay", "/"+name, "overlay", 0, options)
	if errors.Is(err, unix.EPERM) {
		err = unix.Mount("overlay", "/"+name, "overlay", 0, options+",userxattr") // in a user namespace
	}
	return err
}

// keepSysctls leaves those settings writable that a network namespace has of its own.
func keepSysctls() error {
	const all, ours = "/proc/sys", "/proc/sys/net"
	fd, err := unix.Open(ours, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", ours, err)
	}
	defer unix.Close(fd)
	if err := unix.Mount(all, all, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", all, err)
	}
	const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("", all, "", flags, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", all, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), ours, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep %s: %w", ours, err)
	}
	return nil
}
