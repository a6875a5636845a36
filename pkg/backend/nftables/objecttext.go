package nftables

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// objects writes what statements refer to by name.
func (t *texter) objects() {
	for _, h := range t.rs.Helpers {
		t.helper(h)
	}
	for _, x := range t.rs.Timeouts {
		t.timeout(x)
	}
	for _, f := range t.rs.Flowtables {
		t.flowtable(f)
	}
}

func (t *texter) helper(h *ruleset.Helper) {
	t.printf("\tct helper %s {\n", h.Name)
	t.comment(h.Origin)
	t.printf("\t\ttype %q protocol %s\n\t\tl3proto %s\n\t}\n\n", h.Helper, protocolName(h.Protocol), h.Family)
}

// speakable says whether nft(8) has words for an object's protocol. Of the
// timeouts of others it can neither be told nor tell.
func speakable(x *ruleset.Timeout) bool { return x.Protocol == 6 || x.Protocol == 17 }

func (t *texter) timeout(x *ruleset.Timeout) {
	var states []string
	for _, p := range x.Policy {
		states = append(states, fmt.Sprintf("%s : %d", p.State, p.Seconds))
	}
	if !speakable(x) {
		t.printf("\t# nft(8) cannot make this, ipmasq does: ct timeout %s { protocol %d; l3proto %s; policy = { %s }; }\n\n",
			x.Name, x.Protocol, x.Family, strings.Join(states, ", "))
		return
	}
	t.printf("\tct timeout %s {\n", x.Name)
	t.comment(x.Origin)
	t.printf("\t\tprotocol %s\n\t\tl3proto %s\n\t\tpolicy = { %s }\n\t}\n\n",
		protocolName(x.Protocol), x.Family, strings.Join(states, ", "))
}

func (t *texter) flowtable(f *ruleset.Flowtable) {
	devices := make([]string, len(f.Devices))
	for i, d := range f.Devices {
		devices[i] = strconv.Quote(d)
	}
	t.printf("\tflowtable %s {\n\t\thook ingress priority %d\n", f.Name, f.Priority)
	t.printf("\t\tdevices = { %s }\n", strings.Join(devices, ", "))
	if f.Hardware {
		t.printf("\t\tflags offload\n")
	}
	t.printf("\t}\n\n")
}

func (t *texter) comment(o ruleset.Origin) {
	if o.Entry != "" {
		t.printf("\t\tcomment %q\n", o.Entry)
	}
}
