package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// machine is a virtual machine that is about to start.
type machine struct {
	vmlinuz, initrd string
	options         string // for the kernel, beside ours
	console         string // file for what the kernel says
}

// emulator runs everywhere: it needs no support of the processor, nor of the host's kernel.
const emulator = "qemu-system-x86_64"

// run starts the machine and waits until it has switched itself off. It gives each line of the first serial line
// to heard as it comes. The machine ends with ctx, and with this process.
func (m *machine) run(ctx context.Context, heard func(line string)) error {
	c := exec.CommandContext(ctx, emulator,
		"-accel", "tcg", "-machine", "pc", "-cpu", "max", "-smp", "1", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-serial", "file:"+m.console, "-kernel", m.vmlinuz, "-initrd", m.initrd,
		// no_timer_check: where the host is busy, the emulated timer is late, and the kernel gives up on it.
		"-append", "console=ttyS1 loglevel=5 panic=-1 no_timer_check mitigations=off random.trust_cpu=on "+m.options)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	// The signal comes when the thread ends that has started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			heard(strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				said.WriteString(err.Error())
			}
			break
		}
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("%s: %w, %v\n%s", emulator, err, context.Cause(ctx), &said)
	}
	return nil
}

// kernelOf gives the one kernel in a folder of the cache.
func kernelOf(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("kernels of %s: %v: %w", dir, found, os.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}
