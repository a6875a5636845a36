package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Cmd is an exec.Cmd whose process starts inside a host's network namespace. Mounts are those of the test, so
// /sys/class/net does not show the host's interfaces.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// Command prepares a command. Its process is killed with the lab at the latest.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.CommandContext(ctx, name, args...), host: h}
}

// Start starts the command. A process inherits the namespace of the thread that starts it.
func (c *Cmd) Start() error {
	if err := c.host.Do(c.Cmd.Start); err != nil {
		return err
	}
	c.host.lab.track(c)
	return nil
}

// Wait waits for a started command.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	c.host.lab.forget(c)
	return err
}

// Close kills the process if it still runs. It does not replace Wait.
func (c *Cmd) Close() error {
	c.host.lab.forget(c)
	return c.Process.Kill()
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output. The error of a command that fails holds what it
// wrote to standard error.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("stdout already set")
	}
	var stdout, stderr bytes.Buffer
	c.Stdout = &stdout
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		exit.Stderr = stderr.Bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns both of its streams.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("stdout or stderr already set")
	}
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	err := c.Run()
	return both.Bytes(), err
}

// Run runs a command on the host and returns its standard output. A failure fails the test.
func (h *Host) Run(t TB, name string, args ...string) string {
	t.Helper()
	stdout, err := h.Try(name, args...)
	if err != nil {
		t.Fatalf("lab: %s: %v", h.name, err)
	}
	return stdout
}

// Try runs a command on the host and returns its standard output. The error holds its standard error.
func (h *Host) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 12*Patience)
	defer cancel()
	stdout, err := h.Command(ctx, name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(append([]string{name}, args...), " "), err)
	}
	return string(stdout), err
}

// Feed runs a command on the host with the given standard input and returns its standard output. A failure
// fails the test.
func (h *Host) Feed(t TB, stdin string, name string, args ...string) string {
	t.Helper()
	stdout, err := h.TryFeed(stdin, name, args...)
	if err != nil {
		t.Fatalf("lab: %s: %s: %v", h.name, name, err)
	}
	return stdout
}

// TryFeed is Feed where the program may fail; the error has what it said.
func (h *Host) TryFeed(stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 12*Patience)
	defer cancel()
	c := h.Command(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	stdout, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(stdout), err
}
