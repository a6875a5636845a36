package iptables

import "github.com/ipmasq/ipmasq/pkg/nfnetlink"

// generation is that of nf_tables in the calling thread's network namespace.
func generation() (uint32, error) {
	c, err := nfnetlink.Dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Generation()
}
