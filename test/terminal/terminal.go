//go:build linux

// Package terminal is a terminal for tests: a real pseudo-terminal, with an
// emulator behind it that keeps the screen as a person would see it.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/ipmasq/ipmasq/test/lab"
	"golang.org/x/sys/unix"
)

// patience bounds the wait for what should appear.
const patience = 6 * lab.Patience

// Terminal is one terminal. A program runs on Program; Path is the same device.
type Terminal struct {
	t       lab.TB
	Program *os.File
	Path    string
	master  *os.File

	mu        sync.Mutex
	emulator  *vt.Emulator
	cursor    bool
	raw       strings.Builder
	changed   chan struct{} // closed with every change
	start     unix.Termios
	wrote     sync.WaitGroup
	answering sync.WaitGroup
}

// New opens a terminal of a size.
func New(t lab.TB, width, height int) *Terminal {
	t.Helper()
	x := &Terminal{t: t, emulator: vt.NewEmulator(width, height), cursor: true, changed: make(chan struct{})}
	x.emulator.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { x.cursor = visible }})
	if err := x.open(); err != nil {
		t.Fatalf("open a pseudo-terminal: %v", err)
	}
	x.setSize(width, height)
	termios, err := unix.IoctlGetTermios(int(x.Program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatalf("read the settings of a pseudo-terminal: %v", err)
	}
	x.start = *termios
	x.wrote.Go(x.read)
	// What a program asks the terminal, the emulator answers.
	x.answering.Go(func() { _, _ = io.Copy(x.master, x.emulator) })
	t.Cleanup(func() {
		x.Program.Close()
		x.master.Close()
		x.wrote.Wait()
		if pipe, ok := x.emulator.InputPipe().(io.Closer); ok { // its own Close races with its Read
			pipe.Close()
		}
		x.answering.Wait()
	})
	return x
}

func (x *Terminal) open() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	number := 0
	control := raw.Control(func(fd uintptr) {
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	})
	if err == nil {
		err = control
	}
	if err != nil {
		return err
	}
	x.master, x.Path = master, fmt.Sprintf("/dev/pts/%d", number)
	x.Program, err = os.OpenFile(x.Path, os.O_RDWR|unix.O_NOCTTY, 0)
	return err
}

// read shows what the program writes.
func (x *Terminal) read() {
	b := make([]byte, 64<<10)
	for {
		n, err := x.master.Read(b)
		x.mu.Lock()
		x.raw.Write(b[:n])
		_, _ = x.emulator.Write(b[:n])
		close(x.changed)
		x.changed = make(chan struct{})
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *Terminal) setSize(width, height int) {
	raw, err := x.master.SyscallConn()
	if err == nil {
		control := raw.Control(func(fd uintptr) {
			err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
		})
		if err == nil {
			err = control
		}
	}
	if err != nil {
		x.t.Fatalf("set the size of a pseudo-terminal: %v", err)
	}
}

// Resize makes the terminal another size, as dragging a window's corner does.
// The kernel tells the program, if the terminal is the one that controls it.
func (x *Terminal) Resize(width, height int) {
	x.t.Helper()
	x.mu.Lock()
	x.emulator.Resize(width, height)
	x.mu.Unlock()
	x.setSize(width, height)
}

// Attributes has a program started with this terminal as its controlling one,
// on standard input.
func (x *Terminal) Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
}

// Type types keys, as the bytes that a terminal sends for them.
func (x *Terminal) Type(keys string) {
	x.t.Helper()
	if _, err := x.master.WriteString(keys); err != nil {
		x.t.Fatalf("type %q: %v", keys, err)
	}
}

// Screen is what the terminal shows, line by line, without spaces at their
// ends.
func (x *Terminal) Screen() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen()
}

func (x *Terminal) screen() []string {
	var lines []string
	for y := range x.emulator.Height() {
		var line strings.Builder
		for i := 0; i < x.emulator.Width(); {
			cell := x.emulator.CellAt(i, y)
			if cell == nil || cell.Content == "" {
				line.WriteByte(' ')
				i++
				continue
			}
			line.WriteString(cell.Content)
			i += max(1, cell.Width)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// Coloured says whether any cell of a line has a colour.
func (x *Terminal) Coloured(y int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range x.emulator.Width() {
		if cell := x.emulator.CellAt(i, y); cell != nil && (cell.Style.Fg != nil || cell.Style.Bg != nil) {
			return true
		}
	}
	return false
}

// Wait waits until the screen is as cond wants it, and gives it.
func (x *Terminal) Wait(what string, cond func(lines []string) bool) []string {
	x.t.Helper()
	end, look := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer end.Stop()
	defer look.Stop()
	for {
		x.mu.Lock()
		lines, changed := x.screen(), x.changed
		x.mu.Unlock()
		if cond(lines) {
			return lines
		}
		select {
		case <-changed:
		case <-look.C: // nothing tells that a terminal's settings have changed
		case <-end.C:
			x.t.Fatalf("the screen never showed %s; it shows\n%s", what, Frame(lines))
		}
	}
}

// WaitText waits for a text on the screen.
func (x *Terminal) WaitText(text string) []string {
	x.t.Helper()
	return x.Wait(fmt.Sprintf("%q", text), func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), text) })
}

// WaitGone waits until a text is no longer on the screen.
func (x *Terminal) WaitGone(text string) []string {
	x.t.Helper()
	return x.Wait(fmt.Sprintf("itself without %q", text), func(lines []string) bool { return !strings.Contains(strings.Join(lines, "\n"), text) })
}

// Written is all that the program has written, as it was written.
func (x *Terminal) Written() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.String()
}

// Taken says that a program draws on the terminal, and in what way it is not as
// it was; "" where it is.
func (x *Terminal) Taken() string {
	termios, err := unix.IoctlGetTermios(int(x.Program.Fd()), unix.TCGETS)
	if err != nil {
		return err.Error()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case *termios != x.start:
		return fmt.Sprintf("its settings are %+v and were %+v", *termios, x.start)
	case x.emulator.IsAltScreen():
		return "it shows the second screen"
	case !x.cursor:
		return "it has no cursor"
	}
	return ""
}

// WaitRestored waits until the terminal is as it was before.
func (x *Terminal) WaitRestored() {
	x.t.Helper()
	x.Wait("itself as it was", func([]string) bool { return x.Taken() == "" })
}

// Frame puts a screen into a frame, to be printed.
func Frame(lines []string) string {
	width := 0
	for _, l := range lines {
		width = max(width, len([]rune(l)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "+%s+\n", strings.Repeat("-", width))
	for _, l := range lines {
		fmt.Fprintf(&b, "|%-*s|\n", width, l)
	}
	fmt.Fprintf(&b, "+%s+\n", strings.Repeat("-", width))
	return b.String()
}
