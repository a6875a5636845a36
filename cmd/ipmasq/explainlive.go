package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/nftrace"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/ruleset"
	"github.com/ipmasq/ipmasq/pkg/simulate"
	"github.com/urfave/cli/v2"
)

// defaultWait is how long explain --live waits for a packet.
const defaultWait = 30 * time.Second

func liveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "live", Usage: "have the kernel trace such packets as they come, and compare; sends none"},
		&cli.StringFlag{Name: "wait", Usage: "with --live: wait for packets for `DURATION` (default: 30s)"},
		&cli.IntFlag{Name: "packets", Value: 1, Usage: "with --live: trace `N` packets"},
	}
}

// waitOf reads the flags of --live, and refuses those that it does not go with.
func waitOf(c *cli.Context) (time.Duration, error) {
	if !c.Bool("live") {
		for _, name := range []string{"wait", "packets"} {
			if c.IsSet(name) {
				return 0, usagef("--%s goes with --live", name)
			}
		}
		return 0, nil
	}
	for _, name := range []string{"host", "offline"} {
		if c.IsSet(name) {
			return 0, usagef("--live looks at this host, and --%s at one that is made up", name)
		}
	}
	if c.Int("packets") < 1 {
		return 0, usagef("--packets %d: has to be 1 or more", c.Int("packets"))
	}
	if !c.IsSet("wait") {
		return defaultWait, nil
	}
	d, err := time.ParseDuration(c.String("wait"))
	if err != nil || d <= 0 {
		return 0, usagef("--wait takes a duration such as 30s or 5m, and not %q", c.String("wait"))
	}
	return d, nil
}

// liveWalk is the kernel's walk of one packet, beside what was foreseen of it.
type liveWalk struct {
	foreseen   *simulate.Outcome
	seen       []simulate.Seen
	difference *simulate.Difference
	verdict    string // the kernel's: accept, local, drop, queue; "": it was not seen any more
	at         time.Time
}

// live watches the kernel.
type live struct {
	*program
	gateway *gateway
	asked   simulate.Packet // as it was asked for
	known   simulate.Packet // made complete
	chains  *nftrace.Chains
	open    map[uint32]*packetTrace
	order   []uint32
}

// packetTrace is what is known of a packet so far.
type packetTrace struct {
	events []nftrace.Event
	last   time.Time
	ended  bool
}

// settled is how long after its last event a packet that has not come to an end is
// taken to be gone.
const settled = 500 * time.Millisecond

// traceLive has the kernel trace packets, and gives each walk to show, until
// there were enough or the time is over.
func (p *program) traceLive(c *cli.Context, g *gateway, asked simulate.Packet, out *simulate.Outcome, wait time.Duration, show func(*liveWalk)) error {
	if g.backend == "iptables" {
		return advised{errors.New("explain --live: what the kernel does is told by nftables, and the rules of this policy are those of iptables"),
			"ipmasq doctor --flow walks such a packet through the rules of others, too"}
	}
	ns, err := openNetNS(c)
	if err != nil {
		return err
	}
	defer ns.Close()
	l := &live{program: p, gateway: g, asked: asked, known: out.Packet, open: map[uint32]*packetTrace{}}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tracer, err := l.start(ns)
	if err != nil {
		return err
	}
	p.hintf("waiting %v for such a packet; as long as the table inet %s is there, the kernel traces it", wait, tracer.TableName())
	err = l.follow(ctx, tracer, c.Int("packets"), show)
	return errors.Join(err, tracer.Close())
}

// start begins to trace, and reads which rules there are: in that order, so that
// it reads what the packets will meet.
func (l *live) start(ns *link.NetNS) (t *nftrace.Tracer, err error) {
	k := l.known
	packets := nftrace.Packets{In: k.Interface, Own: k.From == flows.Gateway, Source: k.Source, Destination: k.Destination,
		Protocol: k.Protocol, SourcePort: l.asked.SourcePort, DestinationPort: k.DestinationPort}
	if k.Protocol == policy.ProtocolICMP || k.Protocol == policy.ProtocolICMPv6 {
		packets.ICMPType = &k.ICMPType
	}
	err = ns.Do(func() (err error) {
		if t, err = nftrace.Start(packets); err != nil {
			return err
		}
		if l.chains, err = nftrace.Read(); err != nil {
			return errors.Join(err, t.Close())
		}
		return nil
	})
	if errors.Is(err, fs.ErrPermission) {
		return nil, lacking{err, "the capability CAP_NET_ADMIN is needed to have the kernel trace packets: run it as root, or with sudo"}
	}
	if err == nil && !l.inForce() {
		l.warnf("the rules in force are not those of this policy: the walks differ for that")
	}
	return t, err
}

// inForce says whether the kernel's rules are those that the policy compiles to,
// as far as their number and comments tell.
func (l *live) inForce() bool {
	for _, c := range l.gateway.rules.Chains {
		comments := l.chains.Comments("inet", tableWord, c.Name)
		if !slices.EqualFunc(comments, c.Rules, func(text string, r *ruleset.Rule) bool { return isComment(text, r) }) {
			return false
		}
	}
	return true
}

// tableWord is the name of ipmasq's table.
const tableWord = "ipmasq"

// isComment says whether a rule's comment is one that a rule of ours has; a long
// one is cut.
func isComment(text string, r *ruleset.Rule) bool {
	entry := r.Origin.Entry
	const most = 127
	return text == entry[:min(len(entry), most)]
}

// follow collects events until there were so many packets.
func (l *live) follow(ctx context.Context, t *nftrace.Tracer, n int, show func(*liveWalk)) error {
	tick := time.NewTicker(settled / 5)
	defer tick.Stop()
	shown := 0
	for shown < n {
		over := false
		select {
		case e, ok := <-t.Events:
			switch {
			case !ok:
				return t.Err()
			case e.Lost:
				l.warnf("the kernel told more than there was room for: steps may be missing")
			default:
				l.add(e)
			}
		case <-tick.C:
		case <-ctx.Done():
			over = true
		}
		for _, id := range slices.Clone(l.order) {
			x := l.open[id]
			if shown < n && (x.ended || over || time.Since(x.last) > settled) {
				show(l.walk(x))
				shown++
				delete(l.open, id)
				l.order = slices.DeleteFunc(l.order, func(o uint32) bool { return o == id })
			}
		}
		if over {
			break
		}
	}
	if shown == 0 {
		also := ""
		if len(l.gateway.rules.Flowtables) > 0 {
			also = "; what a flowtable has taken over is not traced"
		}
		l.hintf("no such packet came: it does not reach this host, has another source, or comes in by another interface%s", also)
	}
	return nil
}

func (l *live) add(e nftrace.Event) {
	x := l.open[e.ID]
	if x == nil {
		x = &packetTrace{}
		l.open[e.ID] = x
		l.order = append(l.order, e.ID)
	}
	x.events, x.last = append(x.events, e), time.Now()
	x.ended = l.ends(x)
}

// ends says whether the last event is the end of a packet's way: it was dropped,
// or has passed the last chain of the last hook.
func (l *live) ends(x *packetTrace) bool {
	e := &x.events[len(x.events)-1]
	switch e.Verdict {
	case nftrace.Drop, nftrace.Queue, nftrace.Stolen:
		return true
	case nftrace.Accept:
		base := l.baseOf(x)
		return (base.Name == "postrouting" || base.Name == "input") && l.chains.Last(familyOf(l.known.Destination.Is4()), base)
	}
	return false
}

func familyOf(v4 bool) string {
	if v4 {
		return "ip"
	}
	return "ip6"
}

// baseOf is the hook that a packet is at: that of the last base chain that it
// came to, or of the chain that it was led to from there.
func (l *live) baseOf(x *packetTrace) nftrace.Hook {
	table := x.events[len(x.events)-1]
	for _, e := range slices.Backward(x.events) {
		if e.Table != table.Table || e.Family != table.Family {
			break
		}
		if h, ok := l.chains.Base(&e); ok {
			return h
		}
	}
	return nftrace.Hook{}
}
