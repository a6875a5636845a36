package doctor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/simulate"
)

// byRules asks the kernel where the packet goes: rules of routing may look at its
// source, its link or its port, which the routes to its destination do not tell.
// It says whether that is not where those lead.
func (w *walker) byRules() bool {
	o := w.x.out
	if w.source.Engine == nil || o.Verdict != simulate.Forwarded || o.Packet.Interface == "" || o.Mark != o.Packet.Mark {
		return false // written evidence, or a mark of which it is not known when it was made
	}
	p := link.Passage{In: o.Packet.Interface, Source: o.Arrived.Source, Destination: o.Left.Destination, Protocol: o.Packet.Protocol, DestinationPort: o.Left.DestinationPort, Mark: o.Mark}
	var out string
	err := w.do(func() (err error) {
		out, err = p.Leaves()
		return err
	})
	command := fmt.Sprintf("ip route get %s from %s iif %s", p.Destination, p.Source, p.In)
	if p.DestinationPort != 0 {
		command += fmt.Sprintf(" ipproto %s dport %d", protocolName(p.Protocol), p.DestinationPort)
	}
	s := Stage{At: "routing", Verdict: Stops, Mend: []string{"# see which rule or route it is: ip" + dash6Of(p) + " rule; " + command}}
	switch {
	case errors.Is(err, link.ErrRefused):
		why := strings.TrimPrefix(err.Error(), link.ErrRefused.Error()+": ")
		s.Text = fmt.Sprintf("rules of routing, or a route, refuse what comes from %s by %s", p.Source, p.In)
		s.Evidence = []string{command + ": " + why, fmt.Sprintf("routes: without these rules %s is reached by %s", p.Destination, o.Out)}
	case err == nil && out != "" && out != o.Out:
		s.Verdict = Unsure
		s.Text = fmt.Sprintf("leaves by %s, as rules of routing have it, and not by %s: what follows is of %s", out, o.Out, o.Out)
		s.Evidence = []string{command + ": dev " + out}
	default:
		return false
	}
	_ = w.add(s)
	return true
}

func dash6Of(p link.Passage) string {
	if p.Destination.Is6() {
		return " -6"
	}
	return ""
}
