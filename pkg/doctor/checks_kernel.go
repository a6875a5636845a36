package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/foreign"
)

// lacksRules is about kernels that cannot have such rules at all.
func lacksRules(h *Host) []Finding {
	if h.Kernel.Rules == nil {
		return nil
	}
	f := Finding{
		Severity: Broken, Weight: 1000,
		Title:    "the kernel has no nftables",
		Evidence: []string{"kernel: " + h.Kernel.Rules.Error()},
		Mend: []string{"modprobe nf_tables", "# or boot a kernel with CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT,",
			"# or one with CONFIG_IP_NF_IPTABLES and CONFIG_IP6_NF_IPTABLES, and install iptables"},
	}
	if h.Kernel.Backend == string(foreign.XTLegacy) {
		f.Title = "the kernel has no ip_tables any more, where the rules were put"
		f.Mend = []string{"modprobe -a ip_tables ip6_tables", "# or boot a kernel with CONFIG_IP_NF_IPTABLES and CONFIG_IP6_NF_IPTABLES, or with nftables"}
	}
	return []Finding{f}
}

// refused is about policies that the kernel, or this host, does not take.
func refused(h *Host) []Finding {
	if h.Kernel.Refused == nil {
		return nil
	}
	f := Finding{
		Severity: Broken, Weight: 960,
		Title:    "the policy cannot be put in force on this host",
		Evidence: strings.Split("plan: "+h.Kernel.Refused.Error(), "\n"),
		Mend:     []string{"# take out what is refused; or load its module, or boot a kernel that has it, and apply"},
	}
	return []Finding{f}
}

// lacksModules is about helpers without what translates for them. Apply loads
// it, where it may load modules at all.
func lacksModules(h *Host) (out []Finding) {
	if h.Given {
		return nil
	}
	for _, m := range h.Kernel.Lacking {
		out = append(out, Finding{
			Severity: Broken, Weight: 690,
			Title:    fmt.Sprintf("data connections are not translated: the module %s is not there", m),
			Evidence: []string{"kernel: neither /proc/modules nor modules.builtin has " + m},
			Mend:     []string{"modprobe " + m, "# to keep it: echo " + m + " >>/etc/modules-load.d/ipmasq.conf"},
		})
	}
	return out
}

// full is about a table of flows that is full, or nearly.
func full(h *Host) []Finding {
	count, limit := h.number("net/netfilter/nf_conntrack_count"), h.number("net/netfilter/nf_conntrack_max")
	if limit == 0 || count*5 < limit*4 {
		return nil
	}
	f := Finding{
		Severity: Risk, Weight: 590,
		Title:    fmt.Sprintf("the table of flows is nearly full: %d of %d; when it is full, new connections are dropped", count, limit),
		Evidence: []string{h.sysctl("net/netfilter/nf_conntrack_count"), h.sysctl("net/netfilter/nf_conntrack_max")},
	}
	if count*100 >= limit*99 {
		f.Severity, f.Weight = Broken, 740
		f.Title = fmt.Sprintf("the table of flows is full: %d of %d, and new connections are dropped", count, limit)
	}
	if c := h.Kernel.Conntrack; c.Drops+c.EarlyDrops > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("conntrack statistics: %d packets dropped, %d flows thrown out for new ones (conntrack -S)", c.Drops, c.EarlyDrops))
	}
	more := min(2*limit, 1<<31-1)
	switch {
	case h.Kernel.FixedMax:
		f.Mend = []string{fmt.Sprintf("# in the machine's first network namespace: sysctl -w net.netfilter.nf_conntrack_max=%d", more)}
	case h.Policy != nil && h.Policy.Gateway.Conntrack != nil && h.Policy.Gateway.Conntrack.Max > 0:
		f.Mend = []string{fmt.Sprintf("# write gateway: {conntrack: {max: %d}} at %s, and apply", more, h.Policy.Gateway.Conntrack.Place)}
	default:
		f.Mend = []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", more),
			fmt.Sprintf("# to keep it, write gateway: {conntrack: {max: %d}} into the policy", more)}
	}
	f.Mend = append(f.Mend, "# and see whose flows they are: ipmasq connections top")
	return []Finding{f}
}

// wasFull is about a table that was.
func wasFull(h *Host) []Finding {
	c := h.Kernel.Conntrack
	drops := c.Drops - min(c.Drops, c.Inserts) // a failed insert is counted as a drop too
	if c.EarlyDrops == 0 && drops == 0 || len(full(h)) > 0 {
		return nil
	}
	return []Finding{{
		Severity: Note, Weight: 50,
		Title:    "the table of flows was full at some time since the host was started",
		Evidence: []string{fmt.Sprintf("conntrack statistics: %d packets dropped, %d flows thrown out for new ones (conntrack -S)", drops, c.EarlyDrops), h.sysctl("net/netfilter/nf_conntrack_max")},
		Mend:     []string{"# watch whether it comes again (ipmasq run --metrics), or make it larger: gateway: {conntrack: {max: N}}"},
	}}
}

// number is a sysctl that is one; 0 where there is none.
func (h *Host) number(name string) uint64 {
	n, _ := strconv.ParseUint(h.Sysctls[name], 10, 64)
	return n
}

// exhausted is about outside ports that are all taken.
func exhausted(h *Host) (out []Finding) {
	if h.Status == nil || h.Given {
		return nil
	}
	crowded := h.fills(func(w engine.Warning) bool { return w.About != "conntrack" && w.Setting != "max_connections.total" })
	if text := h.Status.Conntrack.Exhausted; text != "" {
		f := Finding{
			Severity: Risk, Weight: 580,
			Title:    "connections found no free outside port",
			Evidence: []string{fmt.Sprintf("conntrack statistics: %d flows could not be inserted (conntrack -S)", h.Kernel.Conntrack.Inserts), "policy: " + text},
			Mend:     []string{"# give the entry wider outside_ports or more addresses; the counter stays until the host starts again"},
		}
		if len(crowded) > 0 {
			f.Severity, f.Weight = Broken, 738
		}
		for _, w := range crowded {
			f.Evidence = append(f.Evidence, "conntrack: "+w.About+": "+w.Message)
		}
		return []Finding{f}
	}
	for _, w := range crowded {
		out = append(out, Finding{
			Severity: Risk, Weight: 570,
			Title:    fmt.Sprintf("the outside ports of %s are nearly all taken", w.About),
			Evidence: []string{"conntrack: " + w.Message},
			Mend:     []string{"# give the entry wider outside_ports, or more addresses, and apply"},
		})
	}
	return out
}

// limited is about limits of entries that are nearly reached.
func limited(h *Host) (out []Finding) {
	for _, w := range h.fills(func(w engine.Warning) bool { return w.Setting == "max_connections.total" }) {
		f := Finding{
			Severity: Risk, Weight: 560,
			Title:    fmt.Sprintf("%s has %d of the %d connections that it may have", w.About, w.Used, w.Of),
			Evidence: []string{"conntrack: " + w.Message},
			Mend:     []string{fmt.Sprintf("# if they are meant to be, write max_connections: {total: %d} there, and apply", w.Suggested)},
		}
		if w.Used >= w.Of {
			f.Severity, f.Weight = Broken, 735
		}
		out = append(out, f)
	}
	return out
}

// fills are the warnings of the status that somebody asks for.
func (h *Host) fills(wanted func(engine.Warning) bool) (out []engine.Warning) {
	if h.Status == nil || h.Given {
		return nil
	}
	for _, w := range h.Status.Warnings {
		if wanted(w) {
			out = append(out, w)
		}
	}
	return out
}

// sysctlDrift is about other settings that the policy says.
func sysctlDrift(h *Host) []Finding {
	if h.Given || h.Status == nil {
		return nil
	}
	again := len(h.applyAgain()) > 0 && len(h.State.Changed) == 0
	f := Finding{
		Severity: Risk, Weight: 500,
		Title: "settings of the kernel are not as the policy says",
	}
	if again {
		f.Mend = h.applyAgain()
	}
	for _, c := range h.Status.SysctlDrift {
		if strings.HasSuffix(c.Name, "/forwarding") || strings.HasSuffix(c.Name, "/ip_forward") || strings.HasSuffix(c.Name, "/rp_filter") {
			continue // they have findings of their own
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("sysctl %s is %s, not %s: %s", dotted(c.Name), c.Before, c.After, c.Why))
		if !again {
			f.Mend = append(f.Mend, fmt.Sprintf("sysctl -w %s=%s", dotted(c.Name), c.After))
		}
	}
	if len(f.Evidence) == 0 {
		return nil
	}
	return []Finding{f}
}

// routeLocalnet is about links whose neighbours can reach what listens on
// 127.0.0.1.
func routeLocalnet(h *Host) (out []Finding) {
	const all = "net/ipv4/conf/all/route_localnet"
	if h.Sysctls[all] == "1" {
		return []Finding{{
			Severity: Risk, Weight: 350,
			Title:    "neighbours on every link can reach what listens on 127.0.0.1 of this host",
			Evidence: []string{h.sysctl(all)},
			Mend:     append([]string{"sysctl -w " + dotted(all) + "=0", "# ipmasq does not need it; if another program does, have it set its own link's alone"}, h.keeps(all)...),
		}}
	}
	for _, l := range h.zoneLinks() {
		key := "net/ipv4/conf/" + l.Name + "/route_localnet"
		if h.Sysctls[key] != "1" {
			continue
		}
		out = append(out, Finding{
			Severity: Risk, Weight: 345,
			Title:    fmt.Sprintf("neighbours on %s can reach what listens on 127.0.0.1 of this host", l.Name),
			Evidence: []string{h.sysctl(key)},
			Mend:     append([]string{"sysctl -w " + dotted(key) + "=0", "# ipmasq does not need it, to forward to a loopback address neither"}, h.keeps(key)...),
		})
	}
	return out
}

// noAccounting is about flows whose packets nobody counts.
func noAccounting(h *Host) []Finding {
	const key = "net/netfilter/nf_conntrack_acct"
	if h.Sysctls[key] != "0" || h.Policy == nil {
		return nil
	}
	if c := h.Policy.Gateway.Conntrack; c != nil && c.Accounting != nil {
		return nil // somebody has thought about it
	}
	return []Finding{{
		Severity: Note, Weight: 10,
		Title:    "the kernel does not count the packets of flows: nobody can see which of them get no answer",
		Evidence: []string{h.sysctl(key)},
		Mend:     []string{"sysctl -w " + dotted(key) + "=1", "# to keep it, write gateway: {conntrack: {accounting: true}} into the policy; it counts for flows that begin from then on"},
	}}
}
