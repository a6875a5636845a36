package top

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gdamore/tcell/v3"
)

// ErrNoTerminal says that there is nothing to draw on.
var ErrNoTerminal = errors.New("no terminal that can be drawn on")

// Run shows flows on the terminal of standard input and output until somebody
// quits or ctx is done. The terminal is then as it was, after a panic too.
func Run(ctx context.Context, o Options) error {
	if term := os.Getenv("TERM"); term == "" || term == "dumb" {
		return fmt.Errorf("%w: TERM is %q", ErrNoTerminal, term)
	}
	for i, f := range []*os.File{os.Stdin, os.Stdout} {
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			return fmt.Errorf("%w: standard %s is not one", ErrNoTerminal, [...]string{"input", "output"}[i])
		}
	}
	tty, err := tcell.NewStdIoTty()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrNoTerminal, err)
	}
	return run(ctx, tty, o)
}

// run is Run on any terminal.
func run(ctx context.Context, tty tcell.Tty, o Options) error {
	// What the locale names and Go has no table for is written as ASCII.
	tcell.SetEncodingFallback(tcell.EncodingFallbackASCII)
	// Nothing is asked of the terminal: some answer late or never, and what is
	// needed all of them have.
	options := []tcell.TerminfoScreenOption{tcell.OptNegotiation(false)}
	if o.NoColor {
		options = append(options, tcell.OptColors(0))
	}
	terminal, err := tcell.NewTerminfoScreenFromTty(tty, options...)
	if err == nil {
		err = terminal.Init()
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrNoTerminal, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	v := newScreen(terminal, &o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.sampler.run(ctx, v.settings)
	}()
	// First the terminal: a listing may take a while to break off.
	defer func() { cancel(); <-done }()
	defer terminal.Fini()
	return v.loop(ctx)
}

// loop answers keys and draws until it is told to stop.
func (v *screen) loop(ctx context.Context) error {
	for {
		v.draw()
		select {
		case <-ctx.Done():
			return nil
		case text := <-v.sampler.panicked:
			panic(text)
		case r := <-v.sampler.readings:
			if err := v.take(r); err != nil {
				return err
			}
		case k := <-v.sampler.killed:
			v.message = k.String()
		case event := <-v.terminal.EventQ():
			switch e := event.(type) {
			case nil: // the terminal is gone
				return nil
			case *tcell.EventResize:
				v.terminal.Sync()
			case *tcell.EventError:
				return fmt.Errorf("read the terminal: %w", e)
			case *tcell.EventKey:
				if v.key(e); v.quit {
					return nil
				}
			}
		}
	}
}
