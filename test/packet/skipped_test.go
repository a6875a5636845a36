package packet

// skips is the table. A feature that comes to iptables takes out its lines.
func skips() []skip {
	return []skip{
		{why: "a `rate` or `max_connections` of both families together is refused", tests: []string{
			"TestLimitTotal/both_families",
			"TestRate/both_families",
		}},
		{why: "`address: 127.0.0.1` and `::1` are refused", tests: []string{
			"TestInputTranslated/IPv4/loopback",
			"TestInputTranslated/IPv6/loopback",
			"TestPortForwardLoopback",
			"TestPortForwardLoopbackCrafted",
			"TestPortForwardTargetsLoopback/IPv4/loopback",
			"TestPortForwardTargetsLoopback/IPv6/loopback",
		}},
		{why: "which of two uplinks without `networks` the way to an address leaves by cannot be asked", tests: []string{
			"TestMarkRoutes/two_interfaces",
		}},
		{why: "nobody can own chains, as `--own-table` says, so packets leak until what others removed is put back", tests: []string{
			"TestRunOwnTable/owned",
		}},
		{why: "`explain --live` is refused: it traces by nftables", tests: []string{
			"TestExplainLive",
			"TestExplainLiveEnds",
			"TestExplainLiveForeign",
		}},
		{why: "nothing can be asked of a packet behind nat, so an address that was borrowed is not seen", tests: []string{
			"TestMasqueradeUplinkWithoutAddress",
		}},
		{why: "the log of the kernel has the numbers of rules, and not their comments", variants: "iptables-legacy", tests: []string{
			"TestTraceNamesEntries",
		}},
		{why: "a commit of the table forgets how many are open", variants: "iptables-legacy", tests: []string{
			"TestLimitRemembers",
		}},
	}
}
