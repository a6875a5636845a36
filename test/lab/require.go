package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Capability is something a test needs of the machine beyond namespaces.
type Capability struct {
	name  string
	probe func() error
}

// String returns the capability's name.
func (c Capability) String() string { return c.name }

// BrNetfilter is bridged traffic that passes the IP hooks. The kernel has it only once the module is loaded.
func BrNetfilter() Capability {
	return Capability{"br_netfilter", func() error {
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		return err
	}}
}

// Binary is a program on PATH, such as nft, iptables-nft, iptables-legacy or conntrack.
func Binary(name string) Capability {
	return Capability{name, func() error {
		_, err := exec.LookPath(name)
		return err
	}}
}

// Tun is point-to-point links by `ip tuntap`. The test is skipped, in CI too,
// where the device is there and for root alone, as it is on some machines.
func Tun(t TB) Capability {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("needs tun: %v", err)
	}
	return Capability{"tun", func() error { return err }}
}

// NFTables is a kernel that lets this process list nftables rules; no binary is needed.
func NFTables() Capability {
	return Capability{"nf_tables", probeNFTables}
}

// Require skips the test with the reason where the machine lacks a capability, and fails it where CI is set.
func Require(t TB, needs ...Capability) {
	t.Helper()
	for _, c := range needs {
		if err := c.probe(); err != nil {
			Lacking(t, "needs %s: %v", c.name, err)
		}
	}
}

// probeNFTables asks for the generation of the ruleset, which needs the subsystem and the right to use it.
func probeNFTables() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open netfilter netlink: %w", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	message := make([]byte, 20) // nlmsghdr, nfgenmsg
	order := binary.NativeEndian
	order.PutUint32(message, uint32(len(message)))
	order.PutUint16(message[4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN)
	order.PutUint16(message[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for nftables generation: %w", err)
	}
	reply := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, reply, 0)
	if err != nil {
		return fmt.Errorf("ask for nftables generation: %w", err)
	}
	if n >= 20 && order.Uint16(reply[4:]) == unix.NLMSG_ERROR {
		return fmt.Errorf("ask for nftables generation: %w", unix.Errno(-int32(order.Uint32(reply[16:]))))
	}
	return nil
}

// Lacking skips the test with a reason that is the machine's, and fails it where CI is set: there nothing may go
// unseen.
func Lacking(t TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if ci := os.Getenv("CI"); ci != "" && ci != "false" && ci != "0" {
		t.Fatalf("%s (a skip where CI is not set)", reason)
	}
	t.Skipf("%s", reason)
}
