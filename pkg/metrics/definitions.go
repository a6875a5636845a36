package metrics

// metric is one of those in table.
type metric int

const (
	up metric = iota
	readDuration
	buildInfo

	inForce
	policyInfo
	policyTime
	drifted
	driftChanges
	warnings

	forwarding
	uplinkUp
	uplinkAddresses

	entries
	newFlows
	refusedPackets
	refusedBytes
	leaksStopped
	limitStopped
	flowsCounted
	openFlows
	openPackets
	openBytes
	maxConnections
	connections
	maxPerHost
	busiestHost
	mapForwards
	poolAddresses
	poolInUse
	poolFlows

	conntrackEntries
	conntrackLimit
	conntrackAccounting
	insertFailed
	dropped
	earlyDropped

	applies
	applyDuration
	lastApplyTime
	lastApplyFailed
	corrections
	reloadFailures
	reloadFailed

	metricCount
)

const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// definition is what a metric promises.
type definition struct {
	name, kind string
	unit       string // for people: the names of base units are in the names of metrics
	labels     []string
	help       string
}

// ofEntry are the labels of an entry. No label says what a client could choose:
// addresses, ports and hosts are for status and connections.
var ofEntry = []string{"section", "entry"}

// table is what docs/metrics.md tells people.
var table = [metricCount]definition{
	up:           {"ipmasq_up", gauge, "0 or 1", nil, "Whether the host could be read for this scrape."},
	readDuration: {"ipmasq_read_duration_seconds", gauge, "seconds", nil, "How long reading the host took."},
	buildInfo:    {"ipmasq_build_info", gauge, "1", []string{"version", "revision", "goversion"}, "What the program was built from."},

	inForce:      {"ipmasq_in_force", gauge, "0 or 1", nil, "Whether the kernel holds anything of ipmasq's."},
	policyInfo:   {"ipmasq_policy_info", gauge, "1", []string{"digest"}, "The policy that was applied last."},
	policyTime:   {"ipmasq_policy_applied_timestamp_seconds", gauge, "seconds since 1970", nil, "When that policy was applied."},
	drifted:      {"ipmasq_drift", gauge, "0 or 1", nil, "Whether the host is not what was applied last."},
	driftChanges: {"ipmasq_drift_changes", gauge, "changes", []string{"kind"}, "What apply would change to have the policy again."},
	warnings:     {"ipmasq_warnings", gauge, "warnings", nil, "How many warnings status has of what is nearly full."},

	forwarding:      {"ipmasq_forwarding_enabled", gauge, "0 or 1", []string{"family"}, "Whether the kernel forwards."},
	uplinkUp:        {"ipmasq_uplink_up", gauge, "0 or 1", []string{"zone", "interface"}, "Whether an interface that flows are translated to is up and has a carrier."},
	uplinkAddresses: {"ipmasq_uplink_addresses", gauge, "addresses", []string{"zone", "interface", "family"}, "How many addresses it has, link-local ones aside."},

	entries:        {"ipmasq_entries", gauge, "entries", []string{"section"}, "How many entries of the policy, and other rows of status, a section has."},
	newFlows:       {"ipmasq_entry_new_flows_total", counter, "flows", ofEntry, "Flows that an entry translated or let pass."},
	refusedPackets: {"ipmasq_entry_refused_packets_total", counter, "packets", ofEntry, "Packets that an entry dropped or rejected."},
	refusedBytes:   {"ipmasq_entry_refused_bytes_total", counter, "bytes", ofEntry, "Bytes of the packets that an entry dropped or rejected."},
	leaksStopped:   {"ipmasq_entry_leaks_stopped_total", counter, "packets", ofEntry, "Packets that an entry should have translated and did not. They were dropped."},
	limitStopped:   {"ipmasq_entry_limit_stopped_packets_total", counter, "packets", ofEntry, "Packets of connections that were more than max_connections of an entry."},
	flowsCounted:   {"ipmasq_flows_counted", gauge, "0 or 1", nil, "Whether the open flows of entries were counted: not where there are many."},
	openFlows:      {"ipmasq_entry_open_flows", gauge, "flows", ofEntry, "Flows of an entry that are in the kernel's table."},
	openPackets:    {"ipmasq_entry_open_flows_packets", gauge, "packets", ofEntry, "Packets of the open flows of an entry, in both directions."},
	openBytes:      {"ipmasq_entry_open_flows_bytes", gauge, "bytes", ofEntry, "Bytes of the open flows of an entry, in both directions."},
	maxConnections: {"ipmasq_entry_max_connections", gauge, "connections", ofEntry, "The total of max_connections of an entry."},
	connections:    {"ipmasq_entry_connections", gauge, "connections", ofEntry, "Connections that count for max_connections of an entry."},
	maxPerHost:     {"ipmasq_entry_max_connections_per_host", gauge, "connections", ofEntry, "What max_connections of an entry gives each host."},
	busiestHost:    {"ipmasq_entry_busiest_host_connections", gauge, "connections", ofEntry, "Connections of the host that has most of them."},
	mapForwards:    {"ipmasq_entry_map_forwards", gauge, "lines", ofEntry, "Lines of the map of a port forward."},
	poolAddresses:  {"ipmasq_entry_pool_addresses", gauge, "addresses", []string{"section", "entry", "family"}, "Addresses that the pool of an entry has."},
	poolInUse:      {"ipmasq_entry_pool_addresses_in_use", gauge, "addresses", []string{"section", "entry", "family"}, "Addresses of the pool of an entry that have a flow."},
	poolFlows:      {"ipmasq_entry_pool_flows", gauge, "flows", ofEntry, "Flows that have an address of the pool of an entry."},

	conntrackEntries:    {"ipmasq_conntrack_entries", gauge, "flows", nil, "Flows in the kernel's table."},
	conntrackLimit:      {"ipmasq_conntrack_entries_limit", gauge, "flows", nil, "Flows that the kernel's table can hold."},
	conntrackAccounting: {"ipmasq_conntrack_accounting_enabled", gauge, "0 or 1", nil, "Whether the kernel counts the packets and bytes of flows."},
	insertFailed:        {"ipmasq_conntrack_insert_failed_total", counter, "flows", nil, "Flows whose addresses and ports another one had."},
	dropped:             {"ipmasq_conntrack_dropped_total", counter, "packets", nil, "Packets that were dropped with these, or because the table was full."},
	earlyDropped:        {"ipmasq_conntrack_early_dropped_total", counter, "flows", nil, "Flows that were thrown out of a full table for new ones."},

	applies:         {"ipmasq_applies_total", counter, "applies", []string{"result"}, "Applies of the daemon, by result."},
	applyDuration:   {"ipmasq_apply_duration_seconds", histogram, "seconds", nil, "How long applies of the daemon took."},
	lastApplyTime:   {"ipmasq_last_apply_timestamp_seconds", gauge, "seconds since 1970", nil, "When the last apply of the daemon ended."},
	lastApplyFailed: {"ipmasq_last_apply_failed", gauge, "0 or 1", nil, "Whether the last apply of the daemon failed."},
	corrections:     {"ipmasq_drift_corrections_total", counter, "corrections", []string{"kind"}, "How often the daemon put right what had drifted."},
	reloadFailures:  {"ipmasq_policy_reload_failures_total", counter, "reloads", nil, "Policies that the daemon read anew and could not put in force."},
	reloadFailed:    {"ipmasq_policy_reload_failed", gauge, "0 or 1", nil, "Whether the policy files hold a policy that could not be put in force."},
}
