// Command ipmasq turns a declarative policy into kernel nat and filter rules.
package main

import "os"

func main() {
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(p.run(os.Args[1:]))
}
