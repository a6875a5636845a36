package vm

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed init.sh
var initScript []byte

// programs are what the tests run, ipmasq aside.
var programs = [...]string{"busybox", "conntrack", "ip", "ipset", "nft", "pppd", "wg", "xtables-legacy-multi", "xtables-nft-multi"}

// image is what a machine boots from, beside its kernel.
type image struct {
	cache  string // what fetch.sh has fetched
	kernel string // a folder in it
	ipmasq string // static, as the next
	tests  string
	kind   *kind
}

// write writes the image as the kernel wants it.
func (i *image) write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	a := newArchive(f)
	if err := i.fill(a); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if err := a.close(); err != nil {
		return err
	}
	return f.Close()
}

func (i *image) fill(a *archive) error {
	a.file("init", 0o755, initScript)
	a.char("dev/console", 5, 1)
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc/ppp", "var/lib", "sbin"} {
		a.dir(dir)
	}
	a.link("var/run", "/run")
	packages := filepath.Join(i.cache, "programs")
	for _, name := range programs {
		if err := a.program(packages, name); err != nil {
			return err
		}
	}
	if err := a.iptables(packages); err != nil {
		return err
	}
	a.link("sbin/modprobe", "/bin/busybox")
	a.link("bin/sh", "/bin/busybox")
	if err := a.linker(packages); err != nil {
		return err
	}
	if err := a.modules(i.kernel, i.kind.with, i.kind.without); err != nil {
		return err
	}
	for _, own := range [...][2]string{{"bin/ipmasq", i.ipmasq}, {"bin/tests", i.tests}} {
		data, err := os.ReadFile(own[1])
		if err != nil {
			return err
		}
		a.file(own[0], 0o755, data)
	}
	a.file("environment", 0o644, []byte(i.kind.environment()))
	return nil
}
