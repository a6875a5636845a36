package examples_test

import (
	"io"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// echoed opens a connection to a server that echoes, and gives what becomes of
// a line on the way there and back. The connection stays open. The helper does
// not look at a first line, which is no such command in FTP.
func echoed(t *testing.T, from *lab.Host, addr, line string, length int) string {
	t.Helper()
	c, err := from.DialTCP(lab.Patience, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Echo(lab.Patience, "USER ftp\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(lab.Patience)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, length)
	_, _ = io.WriteString(c, line)
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("%q became %q: %v", line, got[:n], err)
	}
	return string(got)
}

func ftp(t *testing.T) network {
	l := lab.Gateway(t, lab.WithoutGuest())
	l.DMZ.ServeTCP(":21")
	l.DMZ.ServeTCP(":5000")
	l.LAN1.ServeTCP(":5001")
	l.Server.ServeTCP(":2121")
	return network{l.GW, func(t *testing.T) {
		// The server's answer, which is an echo here, names its data port.
		fails(t, lab.IsRefused, l.Server, lab.GatewayUplink+":5000")
		const answer = "227 Entering Passive Mode (203,0,113,2,19,136)\r\n"
		if got := echoed(t, l.Server, lab.GatewayUplink+":8021", "227 Entering Passive Mode (192,168,2,10,19,136)\r\n", len(answer)); got != answer {
			t.Errorf("the client outside heard %q, want %q", got, answer)
		}
		sees(t, reach(t, l.Server, lab.GatewayUplink+":5000"), "dmz1", lab.Outside)
		fails(t, lab.IsRefused, l.Neighbor, lab.GatewayUplink+":5000")

		fails(t, lab.IsRefused, l.Server, lab.GatewayUplink+":5001")
		const command = "PORT 203,0,113,2,19,137\r\n"
		if got := echoed(t, l.LAN1, lab.Outside+":2121", "PORT 192,168,1,10,19,137\r\n", len(command)); got != command {
			t.Errorf("the server outside heard %q, want %q", got, command)
		}
		sees(t, reach(t, l.Server, lab.GatewayUplink+":5001"), "lan1", lab.Outside)
	}}
}
