package packet

// skips is the table. A feature that comes to iptables takes out its lines.
func skips() []skip {
	return []skip{
		{why: "a `rate` or `max_connections` of both families together is refused", tests: []string{
			"TestLimitCountsFlows",
			"TestLimitTotal",
			"TestMetrics/IPv4",
			"TestMetrics/IPv6",
			"TestRate",
			"TestSNATAttributes",
			"TestStatusLimitOfEnded",
			"TestStatusLimitsOfTwo",
			"TestStatusNearlyFull",
			"TestStatusOpenFlows",
		}},
		{why: "bursts of more than a day's worth are refused", tests: []string{
			"TestLogRate",
		}},
		{why: "`address: 127.0.0.1` and `::1` are refused", tests: []string{
			"TestEverythingAtOnce",
			"TestInputTranslated",
			"TestPortForwardLoopback",
			"TestPortForwardLoopbackCrafted",
			"TestPortForwardTargetsLoopback",
		}},
		{why: "which of two uplinks without `networks` the way to an address leaves by cannot be asked", tests: []string{
			"TestMarkRoutes/two_interfaces",
		}},
		{why: "nobody can own chains, so packets leak until what others removed is put back", tests: []string{
			"TestRunOwnTable",
			"TestRunSoak",
		}},
		{why: "it is about the table of nftables; `TestRunDriftIPTables` has the same", tests: []string{
			"TestRunDrift",
		}},
		{why: "`offload` is refused, which is what is seen first", tests: []string{
			"TestOffload",
		}},
		{why: "`nft` and its tables are what it is about", tests: []string{
			"TestMetrics",
			"TestNamesOfKeywords",
			"TestReconcileFlushed",
			"TestTraceNamesEntries",
		}},
		{why: "what it restores by iptables takes the place of our rules", tests: []string{
			"TestStatusForeignChains",
		}},
		{why: "`explain --live` traces by nftables", tests: []string{
			"TestExplainLive",
			"TestExplainLiveEnds",
			"TestExplainLiveForeign",
		}},
		{why: "nothing can be asked of a packet behind nat, so an address that was borrowed is not seen", tests: []string{
			"TestMasqueradeUplinkWithoutAddress",
		}},
		{why: "a commit of the table forgets how many are open", variants: "iptables-legacy", tests: []string{
			"TestLimitRemembers",
		}},
		{why: "ip6tables-nft-restore 1.8.9 restores no counters", variants: "iptables-nft", tests: []string{
			"TestMetricsThroughApplies/IPv6",
			"TestPortForwardApplyAgain/IPv6",
		}},
	}
}
