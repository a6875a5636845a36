package engine

import (
	"fmt"
	"net/netip"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

// hostFacts is what a plan needs to know of the host's links.
type hostFacts struct{ link.Facts }

func (e *Engine) facts() (hostFacts, error) {
	var f hostFacts
	err := e.NetNS.Do(func() (err error) {
		f.Facts, err = link.Read()
		return err
	})
	return f, err
}

// CompileFacts are the host's facts as the compiler takes them.
func CompileFacts(f link.Facts) compile.Facts { return hostFacts{f}.compile() }

func (f hostFacts) compile() compile.Facts {
	var out compile.Facts
	for _, l := range f.Links {
		var addresses []netip.Prefix
		for _, a := range l.Addresses {
			addresses = append(addresses, a.Prefix)
		}
		out.Links = append(out.Links, compile.Link{Name: l.Name, Addresses: addresses})
	}
	return out
}

// forwarding plans the sysctls.
func (e *Engine) forwarding(r *compile.Result, f hostFacts) ([]sysctl.Change, error) {
	var changes []sysctl.Change
	err := e.NetNS.Do(func() (err error) {
		changes, err = sysctl.ForwardingChanges(sysctl.Forwarding{IPv4: r.IPv4, IPv6: r.IPv6}, f.RADefaultRouteLinks())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plan the sysctls: %w", err)
	}
	return changes, nil
}

// writable finds out before anything is changed whether the sysctls can be.
func (e *Engine) writable(changes []sysctl.Change) error {
	return e.NetNS.Do(func() error {
		for _, c := range changes {
			if err := sysctl.Writable(c.Name); err != nil {
				return err
			}
		}
		return nil
	})
}
