// Command bench measures ipmasq beside its peers and its limits, in one run, so that ratios mean something on any
// machine. It prints the target of each figure and whether it was met; it never fails because something was slow.
//
//	go run ./test/bench [-only apply,iptables,one,daemon,check,sets,packets,flows,events] [-rounds N]
//	go run ./test/bench -only watch [-watch-for 10m]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

func main() {
	only := flag.String("only", "apply,iptables,one,daemon,check,sets,packets,flows,events", "sections to run, separated by commas; there is also watch")
	rounds := flag.Int("rounds", 5, "rounds of each measurement")
	watchFor := flag.Duration("watch-for", 10*time.Minute, "how long the section watch watches")
	flag.Parse()
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	tb := &lab.Program{}
	b := &bench{tb: tb, rounds: *rounds, watchFor: *watchFor}
	b.lab = lab.New(tb)
	b.dir = b.lab.Dir()
	b.build()
	lab.Require(tb, lab.Binary("nft"))
	fmt.Printf("%s, %d CPUs, %s, %s; medians of %d rounds, whole processes unless it says otherwise\n",
		kernel(), runtime.NumCPU(), runtime.Version(), version("nft", "--version"), b.rounds)
	for _, s := range []struct {
		name string
		run  func()
	}{{"apply", b.apply}, {"iptables", b.iptables}, {"one", b.one}, {"daemon", b.daemon}, {"check", b.check}, {"sets", b.sets}, {"packets", b.packets}, {"flows", b.flows},
		{"events", b.events}, {"watch", b.watch}} {
		if slices.Contains(strings.Split(*only, ","), s.name) {
			s.run()
		}
	}
	tb.Close()
}

type bench struct {
	tb     *lab.Program
	lab    *lab.Lab
	dir    string
	ipmasq string
	rounds int
	hosts  int
	cpu    float64 // in ms, of the program that ran last, in the kernel too

	watchFor time.Duration
}

// build compiles the program that is measured.
func (b *bench) build() {
	b.ipmasq = filepath.Join(b.dir, "ipmasq")
	out, err := exec.Command("go", "build", "-o", b.ipmasq, "github.com/ipmasq/ipmasq/cmd/ipmasq").CombinedOutput()
	if err != nil {
		b.tb.Fatalf("bench: go build: %v\n%s", err, out)
	}
}

// host gives a fresh host.
func (b *bench) host() *lab.Host {
	b.hosts++
	return b.lab.Host(fmt.Sprintf("bench%d", b.hosts))
}

func kernel() string { return "Linux " + version("uname", "-r") }

func version(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return name + " ?"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), " (")
	return line
}
