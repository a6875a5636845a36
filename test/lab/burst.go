package lab

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Burst sends every packet once, in order, as fast as one CPU can, and returns how long that took, with all that
// the network did with them up to their last hop: on veths the sender's CPU carries a packet all the way. All
// packets go to the next hop of the first. What does not fit into a queue of the kernel is lost, so count what
// arrives.
func (h *Host) Burst(name string, packets [][]byte) time.Duration {
	h.lab.t.Helper()
	if len(packets) == 0 {
		return 0
	}
	mac, err := h.nextHop(name, packets[0])
	h.must(err)
	fd, to, err := h.packetSocket(name, mac, packets[0])
	h.must(err)
	var took time.Duration
	h.must(func() error {
		took, err = burst(fd, to, packets)
		return err
	}())
	return took
}

func burst(fd int, to *unix.SockaddrLinklayer, packets [][]byte) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err == nil {
		for cpu := range 1024 {
			if before.IsSet(cpu) {
				one.Set(cpu)
				break
			}
		}
		if unix.SchedSetaffinity(0, &one) == nil {
			defer unix.SchedSetaffinity(0, &before)
		}
	}
	name := unix.RawSockaddrLinklayer{
		Family: unix.AF_PACKET, Protocol: to.Protocol, Ifindex: int32(to.Ifindex), Halen: to.Halen, Addr: to.Addr,
	}
	var vectors [floodBatch]unix.Iovec
	var batch [floodBatch]mmsghdr
	for i := range batch {
		header := &batch[i].header
		header.Name, header.Namelen = (*byte)(unsafe.Pointer(&name)), uint32(unsafe.Sizeof(name))
		header.Iov = &vectors[i]
		header.SetIovlen(1)
	}
	start := time.Now()
	for len(packets) > 0 {
		n := min(len(packets), floodBatch)
		for i, p := range packets[:n] {
			vectors[i].Base = &p[0]
			vectors[i].SetLen(len(p))
		}
		sent, err := sendBatch(fd, batch[:n])
		if err != nil {
			return 0, fmt.Errorf("burst: %w", err)
		}
		packets = packets[sent:]
	}
	took := time.Since(start)
	runtime.KeepAlive(packets)
	return took, nil
}
