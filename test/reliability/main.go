// Command reliability measures what the traffic of a gateway feels while its rules are loaded anew, by ipmasq and by
// its peers, each with the same job. docs/reliability.md says what is measured and what came out.
//
//	make reliability
//	go run ./test/reliability [-only nft,ipmasq] [-reloads 50] [-rate 20000] [-runs 2]
//
// Peers that are not installed are taken from the folder that the environment variable IPMASQ_PEERS names, else from
// ~/.cache/ipmasq-peers; fetch.sh fills it. It is laid over the machine's own files for this process alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipmasq/ipmasq/test/lab"
)

// peersFolder is the environment variable that names the folder of the peers.
const peersFolder = "IPMASQ_PEERS"

func main() {
	only := flag.String("only", "", "peers to measure: parts of their names, separated by commas; all without it")
	reloads := flag.Int("reloads", 50, "how often the rules are loaded anew")
	rate := flag.Int("rate", 20000, "packets a second; less where the machine loses some without any reload")
	runs := flag.Int("runs", 2, "how often each peer is measured; cells show the least and the most")
	flag.Parse()
	if flag.NArg() > 0 || *reloads < 1 || *rate < minRate || *runs < 1 {
		flag.Usage()
		os.Exit(64)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "reliability: the peers keep their files where only root may write; run it as root")
		os.Exit(1)
	}
	if err := lab.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
	tb := &lab.Program{}
	folder := os.Getenv(peersFolder)
	if cache, err := os.UserCacheDir(); err == nil && folder == "" {
		folder = filepath.Join(cache, "ipmasq-peers")
	}
	if err := seclude(folder); err != nil {
		tb.Fatalf("reliability: %v", err)
	}
	lab.Require(tb, lab.NFTables(), lab.Binary("nft"))
	var chosen []*peer
	for _, p := range peers(tb) {
		if wanted(*only, p.name) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		tb.Logf("reliability: no peer is called %q", *only)
		os.Exit(64)
	}
	fmt.Printf("%s\n\n%d reloads at %d packets/s, %d runs\n\n%s\n", versions(), *reloads, *rate, *runs, header())
	var notes []string
	for _, p := range chosen {
		if lacks := p.lacks(); lacks != "" {
			notes = append(notes, fmt.Sprintf("not measured: %s: %s", p.name, lacks))
			continue
		}
		r := row{peer: p.name, rate: *rate}
		for n := range *runs {
			tb.Logf("reliability: %s, run %d of %d", p.name, n+1, *runs)
			r.runs = append(r.runs, careful(p, *rate, *reloads))
		}
		fmt.Println(r)
		if r.doubtful() {
			notes = append(notes, fmt.Sprintf("* %s: the machine itself lost packets; this row proves nothing", p.name))
		}
	}
	for _, note := range notes {
		fmt.Printf("\n%s\n", note)
	}
	tb.Close()
}

func wanted(only, name string) bool {
	for part := range strings.SplitSeq(only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
