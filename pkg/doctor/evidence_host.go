package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/link"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/ipmasq/ipmasq/pkg/sysctl"
)

const partState = "the state folder"

// hostParts are read in this order: the policy needs the links, and the status
// the state.
var hostParts = []part{
	{"the links, addresses and routes", "CAP_SYS_ADMIN", readLinks},
	{"the sysctls", "CAP_SYS_ADMIN", readSysctls},
	{partState, "CAP_DAC_OVERRIDE", readState},
	{"the processes", "CAP_SYS_PTRACE", readDaemons},
	{"the policy", "CAP_DAC_OVERRIDE", readPolicy},
	{"the rules of ipmasq", "CAP_NET_ADMIN", readStatus},
	{"what the kernel can do", "CAP_NET_ADMIN", readKernel},
}

func readLinks(_ context.Context, h *Host) error {
	err := h.do(func() (err error) {
		h.Routes, err = link.ReadRoutes()
		return err
	})
	if err == nil {
		addresses := 0
		for _, l := range h.facts().Links {
			addresses += len(l.Addresses)
		}
		h.looked(len(h.facts().Links), "link", "links")
		h.looked(addresses, "address", "addresses")
		h.looked(len(h.facts().Defaults), "default route", "default routes")
	}
	return err
}

// ofLinks are the settings of each link that checks look at, and settings those
// of the whole namespace.
var (
	ofLinks = map[string][]string{
		"ipv4": {"forwarding", "rp_filter", "route_localnet", "src_valid_mark"},
		"ipv6": {"forwarding", "accept_ra", "disable_ipv6"},
	}
	settings = []string{
		"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
		"net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_acct",
		"net/netfilter/nf_conntrack_buckets",
	}
)

func readSysctls(_ context.Context, h *Host) error {
	err := h.do(func() error {
		names := append([]string{}, settings...)
		for family, keys := range ofLinks {
			conf := "net/" + family + "/conf"
			links, err := os.ReadDir(filepath.Join("/proc/sys", conf))
			if errors.Is(err, os.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return fmt.Errorf("list the links of %s: %w", conf, err)
			}
			for _, l := range links {
				for _, key := range keys {
					names = append(names, conf+"/"+l.Name()+"/"+key)
				}
			}
		}
		for _, name := range names {
			value, err := sysctl.Get(name)
			if errors.Is(err, sysctl.ErrAbsent) {
				continue
			}
			if err != nil {
				return err
			}
			h.Sysctls[name] = value
		}
		return nil
	})
	if len(h.Place.Prefix) == 0 { // files are of the machine's own namespace
		h.configured = readConfigured("/")
	}
	if err == nil {
		h.looked(len(h.Sysctls), "sysctl", "sysctls")
	}
	return err
}

// readPolicy finds the policy that is judged, and compiles it for this host.
func readPolicy(ctx context.Context, h *Host) (err error) {
	s := h.source
	if s.Engine.State != nil && h.State.Problem == nil {
		h.Applied, err = s.Engine.Applied(ctx)
		switch {
		case errors.Is(err, fs.ErrPermission) && s.Policy == nil:
			return err
		case err != nil && !errors.Is(err, fs.ErrPermission):
			h.State.Problem = err
		}
	}
	switch {
	case s.Policy != nil:
		facts := engine.CompileFacts(h.facts())
		h.Policy = facts.Resolve(s.Policy)
		h.Compiled, err = compile.Compile(s.Policy, facts)
	case h.Applied != nil:
		h.Policy = h.Applied.Policy
		if a := h.State.State.Applied; a != nil {
			for _, f := range a.Files {
				h.Files = append(h.Files, f.Name)
			}
		}
		var wrong policy.Errors
		if h.Compiled, err = h.Applied.Compile(); errors.As(err, &wrong) {
			h.Kernel.Refused = err // it was right for the host as it was
			return nil
		}
	default:
		return nil
	}
	if err == nil {
		h.looked(len(h.Policy.Zones), "zone of "+strings.Join(h.Files, ", "), "zones of "+strings.Join(h.Files, ", "))
	}
	return err
}

// readStatus reads what of ours is in the kernel. Without a state there is
// nothing to compare with.
func readStatus(ctx context.Context, h *Host) (err error) {
	if h.State.Problem != nil || h.source.Engine.State == nil || h.Kernel.Refused != nil {
		return nil
	}
	h.Status, err = h.source.Engine.Status(ctx)
	return err
}
