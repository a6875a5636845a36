package stage

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/ipmasq/ipmasq/pkg/link"
	"golang.org/x/sys/unix"
)

// stage is one gateway and its surroundings.
type stage struct {
	gateway, far *link.NetNS
	state        int // a folder that is mounted nowhere
	// around is the packet socket by which all far ends receive, sends the one by
	// which they send; marks receives markers in the gateway.
	around, sends, marks int
	ends                 []end
	local                map[local]int // raw sockets of the gateway
	sender               [2]int        // IPv4 and IPv6; -1 until it is needed
	token                uint32
}

// end is the far end of a link.
type end struct {
	name  string // of the gateway's link
	index int    // of the far end
	to    [8]byte
	up    bool
}

// local is what a raw socket of the gateway receives.
type local struct {
	family   int
	protocol uint8
}

// settings are what every gateway begins with: those of the kernel's source, and
// no limit on the errors that it sends. A namespace may inherit others.
func settings() [][2]string {
	return [][2]string{
		{"net/ipv4/conf/all/rp_filter", "0"}, {"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv4/conf/all/route_localnet", "0"}, {"net/ipv4/conf/default/route_localnet", "0"},
		{"net/ipv4/conf/all/send_redirects", "0"}, {"net/ipv4/conf/default/send_redirects", "0"},
		{"net/ipv4/icmp_ratelimit", "0"}, {"net/ipv6/icmp/ratelimit", "0"},
		{"net/ipv6/conf/all/disable_ipv6", "0"}, {"net/ipv6/conf/default/disable_ipv6", "0"},
		{"net/ipv6/conf/all/accept_ra", "0"}, {"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv6/conf/default/router_solicitations", "0"}, {"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/default/addr_gen_mode", "1"}, // addresses are those that are described
	}
}

// silence is what the far side has in addition: it is no host.
func silence() [][2]string {
	return [][2]string{{"net/ipv6/conf/all/disable_ipv6", "1"}, {"net/ipv6/conf/default/disable_ipv6", "1"}}
}

func write(list [][2]string) error {
	for _, s := range list {
		err := os.WriteFile(filepath.Join("/proc/sys", s[0]), []byte(s[1]), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set a sysctl of the new namespace: %w", err)
		}
	}
	return nil
}

// newNetNS makes a network namespace without a name, which lives as long as it
// is open.
func newNetNS(list [][2]string) (*link.NetNS, error) {
	type made struct {
		ns  *link.NetNS
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // and never back: the thread goes with the goroutine
		var m made
		if m.err = unix.Unshare(unix.CLONE_NEWNET); m.err != nil {
			m.err = fmt.Errorf("%w: make a network namespace: %w%s", ErrNoStage, m.err, hint())
		} else if m.err = write(list); m.err == nil {
			m.ns, m.err = link.OpenNetNS("")
		}
		done <- m
	}()
	m := <-done
	return m.ns, m.err
}

// newFolder makes a folder in memory that is mounted nowhere, and is gone when
// it is closed.
func newFolder() (int, error) {
	fail := func(err error) (int, error) {
		return -1, fmt.Errorf("%w: make a file system in memory: %w", ErrNoStage, err)
	}
	system, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(system)
	if err := unix.FsconfigSetString(system, "mode", "0700"); err != nil {
		return fail(err)
	}
	if err := unix.FsconfigCreate(system); err != nil {
		return fail(err)
	}
	folder, err := unix.Fsmount(system, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fail(err)
	}
	return folder, nil
}

// Fresh makes the gateway anew, as one that has seen nothing.
func (g *Gateway) Fresh() error {
	if err := g.Close(); err != nil {
		return err
	}
	s := &stage{state: -1, around: -1, sends: -1, marks: -1, local: map[local]int{}, sender: [2]int{-1, -1}}
	if err := s.build(g); err != nil {
		return errors.Join(err, s.close())
	}
	g.stage = s
	return nil
}

func farName(i int) string { return "far" + strconv.Itoa(i) }

func (s *stage) build(g *Gateway) (err error) {
	if s.far, err = newNetNS(silence()); err != nil {
		return err
	}
	if s.gateway, err = newNetNS(settings()); err != nil {
		return err
	}
	if s.state, err = newFolder(); err != nil {
		return err
	}
	if err := s.gateway.Do(func() error { return g.host.Make(s.far, farName) }); err != nil {
		return fmt.Errorf("build the gateway: %w", err)
	}
	if err := s.far.Do(func() error { return s.openEnds(g.host) }); err != nil {
		return err
	}
	if err := s.gateway.Do(s.openGateway); err != nil {
		return err
	}
	if err := g.apply(s.gateway, fmt.Sprintf("/proc/self/fd/%d/state", s.state)); err != nil {
		return fmt.Errorf("apply the policy to the gateway: %w", err)
	}
	// Only now: to apply, a link that asks for nobody is one with a single other end.
	return s.gateway.Do(g.host.StopResolving)
}

// openEnds runs on the far side, openGateway in the gateway.
func (s *stage) openEnds(h link.Host) (err error) {
	for i, l := range h.Links {
		far, err := net.InterfaceByName(farName(i))
		if err != nil {
			return fmt.Errorf("look up the far end of %s: %w", l.Name, err)
		}
		s.ends = append(s.ends, end{name: l.Name, index: far.Index, up: l.Up})
	}
	if s.around, err = packetSocket(unix.ETH_P_ALL); err != nil {
		return err
	}
	s.sends, err = sendingSocket()
	return err
}

func (s *stage) openGateway() (err error) {
	for i := range s.ends {
		near, err := net.InterfaceByName(s.ends[i].name)
		if err != nil {
			return fmt.Errorf("look up %s: %w", s.ends[i].name, err)
		}
		copy(s.ends[i].to[:], near.HardwareAddr)
	}
	s.marks, err = packetSocket(etherMarker)
	return err
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// Close throws the gateway away.
func (g *Gateway) Close() error {
	if g.stage == nil {
		return nil
	}
	err := g.stage.close()
	g.stage = nil
	return err
}

func (s *stage) close() error {
	var errs []error
	fds := []int{s.state, s.sender[0], s.sender[1]}
	for _, fd := range s.local {
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		if fd >= 0 {
			if err := unix.Close(fd); err != nil {
				errs = append(errs, fmt.Errorf("close the stage: %w", err))
			}
		}
	}
	for _, fd := range []int{s.around, s.sends, s.marks} {
		if fd >= 0 {
			go unix.Close(fd) // to close a packet socket takes milliseconds
		}
	}
	for _, ns := range []*link.NetNS{s.gateway, s.far} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}
