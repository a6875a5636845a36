package lab

import (
	"os/exec"
	"strings"
)

// HasFlowtables reports whether the kernel has the flowtables of nftables, with the flows of IPv4 and IPv6 in one.
func (h *Host) HasFlowtables() bool {
	err := h.Do(func() error {
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader("add table inet probe\n" +
			"add flowtable inet probe f { hook ingress priority 0; devices = { lo }; }\ndelete table inet probe\n")
		return c.Run()
	})
	return err == nil
}
