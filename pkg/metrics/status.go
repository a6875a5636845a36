package metrics

import "github.com/ipmasq/ipmasq/pkg/engine"

// status tells what was read of the host. What was not counted is absent: 0
// would say that there is none.
func (s *samples) status(st *engine.Status) {
	s.add(inForce, truth(st.InForce))
	s.policy(st.Digest, st.Applied)
	s.drift(st)
	s.add(warnings, float64(len(st.Warnings)))
	s.add(forwarding, truth(st.Forwarding.IPv4), "ipv4")
	s.add(forwarding, truth(st.Forwarding.IPv6), "ipv6")
	s.uplinks(st.Uplinks)
	s.entries(st)
	s.conntrack(st)
}

func (s *samples) drift(st *engine.Status) {
	s.add(drifted, truth(st.Drifted()))
	changed, structure := 0, 0
	if st.Drift != nil && !st.Drift.Empty() {
		for _, e := range st.Drift.Entries() {
			if e.Structural() {
				structure++
			} else {
				changed++
			}
		}
	}
	sysctls := 0
	for _, c := range st.SysctlDrift {
		if c.Writes() {
			sysctls++
		}
	}
	routing := len(st.RoutingDrift.Add.Lines()) + len(st.RoutingDrift.Remove.Lines())
	s.add(driftChanges, float64(changed), "entries")
	s.add(driftChanges, float64(structure), "structure")
	s.add(driftChanges, float64(sysctls), "sysctls")
	s.add(driftChanges, float64(routing), "routing")
}

// uplinks tells of each interface once, though several patterns of a zone may
// match it.
func (s *samples) uplinks(list []engine.Uplink) {
	seen := map[[2]string]bool{}
	for _, u := range list {
		name := [2]string{u.Zone, u.Interface}
		if seen[name] {
			continue
		}
		seen[name] = true
		s.add(uplinkUp, truth(u.Up), u.Zone, u.Interface)
		v4, v6 := 0, 0
		for _, a := range u.Addresses {
			if isIPv4(a) {
				v4++
			} else {
				v6++
			}
		}
		s.add(uplinkAddresses, float64(v4), u.Zone, u.Interface, "ipv4")
		s.add(uplinkAddresses, float64(v6), u.Zone, u.Interface, "ipv6")
	}
}

// isIPv4 tells an address with its prefix length, as Status has it.
func isIPv4(prefix string) bool {
	for _, c := range prefix {
		switch c {
		case '.':
			return true
		case ':':
			return false
		}
	}
	return false
}

func (s *samples) conntrack(st *engine.Status) {
	c := &st.Conntrack
	s.add(conntrackEntries, float64(c.Count))
	s.add(conntrackLimit, float64(c.Max))
	s.add(conntrackAccounting, truth(st.TrafficCounted))
	s.add(insertFailed, float64(c.InsertFailed))
	s.add(dropped, float64(c.Dropped))
	s.add(earlyDropped, float64(c.EarlyDropped))
}
