package vm

import "fmt"

// kind is what is special about some machines: what their kernel has, and which tests run there.
type kind struct {
	name          string
	with, without []string // modules, beside the wanted ones by their path, and less those by their name
	options       string   // for the kernel
	backend       string   // of the gateways, as IPMASQ_TEST_BACKEND has it
	run, skip     string   // as for go test
}

// environment is read by the machine's first process.
func (k *kind) environment() string {
	return fmt.Sprintf("export IPMASQ_TEST_BACKEND=%s\nRUN='%s'\nSKIP='%s'\n", k.backend, k.run, k.skip)
}

// mainJob are the tests that every kernel has to pass, beside those of the tag: masquerade, port forwards, what may
// pass, hairpin, the guard, apply and delete; and what an older kernel does in its own way.
const mainJob = "^(TestVM.*|TestMasquerade|TestMasqueradePorts|TestMasqueradeICMPErrors|TestMasqueradeFollowsTheAddress|" +
	"TestPortForwardPorts|TestPortForwardMap|TestPortForwardAnswers|TestPortForwardTargetStaysClosed|TestForwardActions|" +
	"TestForwardRules|TestHairpin|TestHairpinWithinZone|TestGuardStrays|TestGuardOlderFlows|TestGuardDelete|TestApplyAgain|" +
	"TestOffload|TestOffloadOlderFlows|TestSynproxyConnects|TestSynproxyFlood|TestMarkRoutes|" +
	"TestDeleteOnAHostThatForwarded|TestWildcardInterfaces|TestNarrowerZone|" +
	"TestConnectionsEntries|TestConnectionsKill|TestConnectionsKillFilters|TestConnectionsExpected|TestWatch|" +
	"TestReconcileRetargetUDP|TestReconcileForwardRemoved|TestReconcileSamePortTCP|TestReconcileSamePortUDP|TestReconcilePool|" +
	"TestRunAddresses|TestRunNotifies|TestRunStartsWithMistakes)$"

// withoutNFTables are the tests for a kernel that knows no nf_tables: what a policy without `backend` becomes there,
// each kind of translation and rule, and what asks the kernel for features one by one.
const withoutNFTables = "^(TestVMAuto.*|TestMasquerade|TestMasqueradePorts|TestMasqueradeICMPErrors|TestSNATOrder|TestOneToOne|" +
	"TestPortForwardPorts|TestPortForwardMap|TestPortForwardSticky|TestHairpin|TestRedirectProxy|TestForwardActions|TestInput|" +
	"TestGuardStrays|TestApplyAgain|TestSets|TestLog|TestLimitPortForward|TestTimeoutsChange|TestSynproxyConnects|" +
	"TestTFTP|TestConnectionsKill)$"

// withoutIPv6 are the tests for a kernel that was booted without IPv6: policies of both families, of which IPv4 is
// left, on each backend.
const withoutIPv6 = "^(TestNoIPv6.*|TestPortForwardPorts|TestHairpin|TestGuardStrays)$"

// kinds are the machines that each kernel boots as. A test whose name begins with TestVMAuto is for those without
// nf_tables, any other that begins with TestVM for those with it.
func kinds() []*kind {
	return []*kind{
		{name: "usual", run: mainJob, skip: "^TestVMAuto"},
		{name: "without nf_tables", with: xtables(), without: []string{"nf_tables", "nft_"}, backend: "iptables-legacy", run: withoutNFTables, skip: "^TestVM[^A]"},
		{name: "without IPv6", with: xtables(), options: "ipv6.disable=1", run: withoutIPv6, skip: "^$"},
	}
}
