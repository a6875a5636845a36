package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// Where packages keep what is started, and what that loads.
var (
	programDirs = [...]string{"bin", "sbin", "usr/bin", "usr/sbin"}
	libraryDirs = [...]string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib", "lib64"}
)

// program adds a program of the unpacked packages to /bin, and the libraries that it loads to /lib, where the
// dynamic linker looks last.
func (a *archive) program(packages, name string) error {
	file, err := find(packages, programDirs[:], name)
	if err != nil {
		return err
	}
	return a.object(packages, file, "bin/"+name)
}

func (a *archive) object(packages, file, as string) error {
	if a.made[as] {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	a.file(as, 0o755, data)
	object, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer object.Close()
	libraries, err := object.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, name := range libraries {
		file, err := find(packages, libraryDirs[:], name)
		if err != nil {
			return err
		}
		if err := a.object(packages, file, "lib/"+name); err != nil {
			return err
		}
	}
	return nil
}

// extensions is where both variants of iptables look for what they can match and do.
const extensions = "usr/lib/x86_64-linux-gnu/xtables"

// iptables adds the names of both variants, as Debian has them: what is called iptables is the nft variant.
func (a *archive) iptables(packages string) error {
	for _, family := range [...]string{"ip", "ip6"} {
		for _, end := range [...]string{"", "-save", "-restore"} {
			a.link("bin/"+family+"tables"+end, "xtables-nft-multi")
			a.link("bin/"+family+"tables-nft"+end, "xtables-nft-multi")
			a.link("bin/"+family+"tables-legacy"+end, "xtables-legacy-multi")
		}
	}
	files, err := filepath.Glob(filepath.Join(packages, extensions, "*.so"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no %s below %s", extensions, packages)
	}
	for _, file := range files {
		if err == nil {
			err = a.object(packages, file, extensions+"/"+filepath.Base(file))
		}
	}
	return err
}

// linker is the dynamic linker, by the name that every program asks for.
const linker = "lib64/ld-linux-x86-64.so.2"

func (a *archive) linker(packages string) error {
	file, err := find(packages, libraryDirs[:], path.Base(linker))
	if err != nil {
		return err
	}
	return a.object(packages, file, linker)
}

func find(root string, dirs []string, name string) (string, error) {
	for _, dir := range dirs {
		file := filepath.Join(root, dir, name)
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			return file, err
		}
	}
	return "", fmt.Errorf("no %s below %s", name, root)
}
