package gallery

import (
	"fmt"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// traffic sends something, and says why it did not come back in time.
type traffic func(g *gateway, within time.Duration) error

// ping sends an echo request from the address of a host, or any of its.
func ping(from func(*gateway) *lab.Host, to, source string) traffic {
	return func(g *gateway, within time.Duration) error {
		r, err := from(g).Ping(to, within, lab.PingOptions{From: source})
		if err == nil && !r.Echo() {
			err = fmt.Errorf("ping %s: %v", to, r.ICMP)
		}
		return err
	}
}

// out leads from the inside to the Internet, by each family.
func out() traffic   { return ping(lan1, lab.Outside, "") }
func outv6() traffic { return ping(lan1, lab.Outsidev6, "") }

// web is a connection from the Internet to a port forward of an address.
func web(address string) traffic {
	return func(g *gateway, within time.Duration) error {
		s := g.LAN1.ServeTCP("192.168.1.10:80")
		defer s.Close()
		c, err := g.Server.DialTCP(within, address+":80")
		if err != nil {
			return err
		}
		return c.Abort()
	}
}
