package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// etherMarker is a local experimental ethertype (IEEE 802): no protocol receives it.
	etherMarker = 0x88b5
	// settleHops is how many links, there and back, a packet may still have before it.
	settleHops = 32
)

// Settle returns when every packet that was sent before the call has gone as far as it goes: delivered, dropped,
// or answered by a kernel. It does not wait for processes, for timers, or for a neighbour that does not answer.
//
// A veth hands a packet over by queueing it for the softirq of the CPU that sends, in order (net/core/dev.c,
// enqueue_to_backlog). A marker that is sent over lo on the same CPU comes back after all of them, and by then
// each has moved one link on. So many rounds on every CPU empty the lab.
func (l *Lab) Settle() {
	l.t.Helper()
	if err := l.settle(); err != nil {
		l.t.Fatalf("lab: settle: %v", err)
	}
}

// SettleHere is Settle for a thread that stays on one CPU, which all packets were sent from, and for packets that
// have at most so many links before them. It takes some ten microseconds a link.
func (l *Lab) SettleHere(hops int) error {
	l.settling.Lock()
	defer l.settling.Unlock()
	m, err := l.theMarker()
	if err != nil {
		return err
	}
	return m.rounds(hops)
}

// theMarker needs the lock.
func (l *Lab) theMarker() (*marker, error) {
	if l.marker == nil {
		m, err := newMarker()
		if err != nil {
			return nil, err
		}
		l.track(m)
		l.marker = m // kept: to close a packet socket takes milliseconds
	}
	return l.marker, nil
}

func (l *Lab) settle() error {
	l.settling.Lock()
	defer l.settling.Unlock()
	m, err := l.theMarker()
	if err != nil {
		return err
	}
	// A packet changes CPU where a process or another packet's ARP reply sends it on; the second pass catches it.
	for range 2 {
		if err := onEveryCPU(func() error { return m.rounds(settleHops) }); err != nil {
			return err
		}
	}
	return nil
}

// onEveryCPU runs f on each CPU that this process may use, which are those that the lab's packets are sent from.
func onEveryCPU(f func() error) error {
	runtime.LockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("read cpu affinity: %w", err)
	}
	defer func() {
		if unix.SchedSetaffinity(0, &allowed) == nil {
			runtime.UnlockOSThread()
		}
	}()
	for cpu, left := 0, allowed.Count(); left > 0; cpu++ {
		if !allowed.IsSet(cpu) {
			continue
		}
		left--
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return fmt.Errorf("move to cpu %d: %w", cpu, err)
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// marker sends frames over the lo of the test's own namespace and receives them.
type marker struct {
	fd   int
	id   uint64 // labs share lo
	to   *unix.SockaddrLinklayer
	sent uint64
}

func newMarker() (*marker, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	m := &marker{fd: fd, id: serial.Add(1), to: &unix.SockaddrLinklayer{Protocol: networkOrder(etherMarker), Ifindex: 1, Halen: 6}}
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	if err == nil {
		err = unix.Bind(fd, m.to)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket: %w", err)
	}
	return m, nil
}

// Close closes the socket.
func (m *marker) Close() error {
	closePacketSocket(m.fd)
	return nil
}

func (m *marker) rounds(n int) error {
	for range n {
		m.sent++
		for deadline := time.Now().Add(Patience); ; {
			var frame [16]byte
			binary.NativeEndian.PutUint64(frame[:], m.id)
			binary.NativeEndian.PutUint64(frame[8:], m.sent)
			if err := unix.Sendto(m.fd, frame[:], 0, m.to); err != nil && err != unix.ENOBUFS {
				return fmt.Errorf("send marker: %w", err)
			}
			back, err := m.back()
			if err != nil {
				return err
			}
			if back {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("receive marker: %w", os.ErrDeadlineExceeded)
			}
		}
	}
	return nil
}

// back waits for the marker that was sent last. It is lost where a flood has filled the CPU's queue
// (net.core.netdev_max_backlog). It skips copies of frames on their way out, and the markers of other labs.
func (m *marker) back() (bool, error) {
	var frame [64]byte
	for {
		n, from, err := unix.Recvfrom(m.fd, frame[:], 0)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false, nil
		default:
			return false, fmt.Errorf("receive marker: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if ok && link.Pkttype != unix.PACKET_OUTGOING && n >= 16 &&
			binary.NativeEndian.Uint64(frame[:]) == m.id && binary.NativeEndian.Uint64(frame[8:]) == m.sent {
			return true, nil
		}
	}
}
