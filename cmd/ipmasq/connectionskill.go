package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/urfave/cli/v2"
)

// killsShown is how many connections are shown before it is asked whether to
// kill them.
const killsShown = 10

func (p *program) connectionsKillCommand() *cli.Command {
	return &cli.Command{
		Name:  "kill",
		Usage: "cut connections",
		Description: "Removes the connections that the filter flags allow from the kernel's table, after it has shown how many and " +
			"which come first, and was told to. The next packet of such a connection is the first of a new one, which the rules " +
			"that are in force translate, let pass or drop.",
		Flags: placeFlags(append(filterFlags(),
			&cli.BoolFlag{Name: "all", Usage: "all connections, where no filter is given"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show which, and cut none"},
			&cli.BoolFlag{Name: "own-session", Usage: "the SSH connection that the command is run over, too"},
		)...),
		Action: p.killConnections,
	}
}

func (p *program) killConnections(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	filter, err := readFilter(c)
	if err != nil {
		return err
	}
	switch {
	case !filter.given && !c.Bool("all"):
		return usagef("kill needs to be told which connections: give a filter, or --all")
	case filter.given && c.Bool("all"):
		return usagef("--all is for all connections, and a filter is given too")
	case !c.Bool("yes") && !c.Bool("dry-run") && !isTerminal(p.stdin):
		return usagef("kill asks first, and there is no terminal to ask on; --yes does without, --dry-run shows which")
	}
	x, err := p.openConnections(c, !c.Bool("yes"))
	if err != nil {
		return err
	}
	defer x.close()
	k := kill{conn: x.Conn, atOnce: c.Bool("yes") && !c.Bool("dry-run"), spare: p.session()}
	if c.Bool("own-session") {
		k.spare = nil
	}
	err = k.choose(x)
	if k.spared {
		p.warnf("the SSH connection that this command is run over is left out; --own-session cuts it too")
	}
	what := counted(k.chosen, "connection", "connections")
	switch {
	case err != nil && k.killed == 0:
		return err
	case err != nil: // and some are cut
	case c.Bool("dry-run"):
		p.showDoomed(&k)
		fmt.Fprintf(p.stdout, "%s would be killed\n", what)
		return nil
	case !k.atOnce && k.chosen > 0:
		p.showDoomed(&k)
		if !p.confirmed("kill " + what + "?") {
			return fmt.Errorf("kill %s: not confirmed, and none was killed", what)
		}
		fallthrough
	default:
		err = k.carryOut()
	}
	gone := ""
	if n := k.chosen - k.killed; n > 0 && err == nil {
		gone = fmt.Sprintf(" (%d had ended already)", n)
	}
	fmt.Fprintf(p.stdout, "%s killed%s\n", counted(k.killed, "connection", "connections"), gone)
	return err
}

// showDoomed prints the first of the connections that go.
func (p *program) showDoomed(k *kill) {
	if len(k.shown) == 0 {
		return
	}
	list := newFlowList(p.stdout, "table", time.Now())
	for i := range k.shown {
		list.print(&k.shown[i].Flow, &k.shown[i].Judgement)
	}
	_ = list.end() // the answer remembers
	if n := k.chosen - len(k.shown); n > 0 {
		fmt.Fprintf(p.stdout, "... and %d more\n", n)
	}
}

// confirmed asks on the terminal.
func (p *program) confirmed(question string) bool {
	fmt.Fprintf(p.stderr, "ipmasq: %s [y/N] ", question)
	answer, _ := bufio.NewReader(p.stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// kill is connections that are to be cut: exactly those that were counted and
// shown, and none that has come since. Where nobody asks to be shown them, they
// are cut while the table is read: the kernel finds the next ones meanwhile.
type kill struct {
	conn           *conntrack.Conn
	atOnce         bool
	spare          *compile.Session // nil: none
	spared         bool             // it was among them
	chosen, killed int
	doomed         []doomed // those that are not cut yet
	shown          []judgedFlow
	flows          []conntrack.Flow
}

// killedAtOnce is how many connections are cut together.
const killedAtOnce = 1024

// doomed is what names a connection: a fifth of what there is to tell of it.
// All have to be kept until it is known whether to cut them.
type doomed struct {
	source, destination         [16]byte // of the reply, as they are there
	sourcePort, destinationPort uint16
	icmpID                      uint16
	icmpType, icmpCode          uint8
	family                      conntrack.Family
	protocol                    uint8
	zone, replyZone             uint16
	id                          uint32
}

func doom(f *conntrack.Flow) doomed {
	r := &f.Reply
	return doomed{
		source: r.Source.As16(), destination: r.Destination.As16(), sourcePort: r.SourcePort, destinationPort: r.DestinationPort,
		icmpID: r.ICMPID, icmpType: r.ICMPType, icmpCode: r.ICMPCode,
		family: f.Family, protocol: f.Protocol, zone: f.Zone, replyZone: r.Zone, id: f.ID,
	}
}

// flow is the connection as far as it needs to be known to be deleted.
func (d *doomed) flow() conntrack.Flow {
	source, destination := netip.AddrFrom16(d.source), netip.AddrFrom16(d.destination)
	if d.family == conntrack.IPv4 {
		source, destination = source.Unmap(), destination.Unmap()
	}
	return conntrack.Flow{
		Family: d.family, Protocol: d.protocol, Zone: d.zone, ID: d.id,
		Reply: conntrack.Tuple{
			Source: source, Destination: destination, SourcePort: d.sourcePort, DestinationPort: d.destinationPort,
			ICMPID: d.icmpID, ICMPType: d.icmpType, ICMPCode: d.icmpCode, Zone: d.replyZone,
		},
	}
}

// choose reads which connections go.
func (k *kill) choose(x *connections) error {
	var failed error
	err := x.each(func(f *conntrack.Flow, j *flows.Judgement) bool {
		if k.spare != nil && isSession(k.spare, f) {
			k.spared = true
			return true
		}
		if len(k.shown) < killsShown {
			k.shown = append(k.shown, judgedFlow{Flow: *f, Judgement: *j})
		}
		k.chosen++
		k.doomed = append(k.doomed, doom(f))
		if k.atOnce && len(k.doomed) == killedAtOnce {
			failed = k.carryOut()
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// carryOut cuts those that are chosen, and counts how many were still there.
func (k *kill) carryOut() error {
	for rest := k.doomed; len(rest) > 0; {
		some := rest[:min(len(rest), killedAtOnce)]
		rest = rest[len(some):]
		k.flows = k.flows[:0]
		for i := range some {
			k.flows = append(k.flows, some[i].flow())
		}
		n, err := k.conn.DeleteAll(k.flows)
		k.killed += n
		if err != nil {
			return err
		}
	}
	k.doomed = k.doomed[:0]
	return nil
}

// isSession says whether a connection is the SSH connection s, whose ends are
// as the server sees them: behind what translates its destination, and before
// what would translate its source.
func isSession(s *compile.Session, f *conntrack.Flow) bool {
	ends := func(t *conntrack.Tuple) (source, destination netip.AddrPort) {
		return netip.AddrPortFrom(t.Source, t.SourcePort), netip.AddrPortFrom(t.Destination, t.DestinationPort)
	}
	server, client := ends(&f.Reply)
	return f.Protocol == conntrack.ProtocolTCP && server == s.Server && client == s.Client
}
