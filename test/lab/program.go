package lab

import (
	"fmt"
	"os"
	"sync"
)

// Program lets a plain program build a lab: it is a [TB] whose failures are printed and end the process.
// Call [Enter] first.
type Program struct {
	mu       sync.Mutex
	cleanups []func()
}

// Helper does nothing.
func (p *Program) Helper() {}

// Logf prints to standard error.
func (p *Program) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// Fatalf prints to standard error and exits with code 1. The namespaces go with the process.
func (p *Program) Fatalf(format string, args ...any) {
	p.Logf(format, args...)
	os.Exit(1)
}

// Skipf is Fatalf: a program has nothing else to go on to.
func (p *Program) Skipf(format string, args ...any) {
	p.Fatalf(format, args...)
}

// Cleanup has f called by [Program.Close], last in first out.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// Close runs what Cleanup was given. A program that ends anyway need not call it.
func (p *Program) Close() error {
	p.mu.Lock()
	cleanups := p.cleanups
	p.cleanups = nil
	p.mu.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	return nil
}
