// Command demo shows what ipmasq does: it builds a home network out of
// namespaces, runs ipmasq in it, and checks every sentence that it prints.
package main

import (
	"fmt"
	"os"

	"github.com/ipmasq/ipmasq/test/lab"
)

func main() {
	if err := lab.Enter(); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		fmt.Fprintln(os.Stderr, "demo: it needs network namespaces; where ordinary users may not make them, run it as root")
		os.Exit(1)
	}
	p := &lab.Program{}
	run(p, os.Stdout)
	p.Close()
}
