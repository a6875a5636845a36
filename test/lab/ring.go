package lab

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// geometry is the shape of a ring. A frame that does not fit is cut.
type geometry struct{ frame, frames int }

const ringBlock = 1 << 16

// A recording keeps whole packets of a usual MTU; a count only reads headers. Either holds 0.2 s or more of
// 20,000 packets a second. A larger ring takes longer to make than most tests to run.
func ringFor(keep bool) geometry {
	if keep {
		return geometry{frame: 2048, frames: 4096}
	}
	return geometry{frame: 256, frames: 16384}
}

// ring is a packet socket with a mapped receive ring (TPACKET_V2, packet(7)). Unlike a socket buffer its size is
// not bounded by net.core.rmem_max, which an unprivileged user cannot raise.
type ring struct {
	fd     int
	shape  geometry
	memory []byte
	next   int
}

// openRing must run inside the namespace.
func openRing(index int, shape geometry) (*ring, error) {
	// Protocol 0 receives nothing until bind says where from, so that no frame of another interface gets in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	r := &ring{fd: fd, shape: shape}
	if err := r.setUp(index); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) setUp(index int) error {
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return fmt.Errorf("set packet version: %w", err)
	}
	request := unix.TpacketReq{
		Block_size: ringBlock,
		Block_nr:   uint32(r.shape.frame * r.shape.frames / ringBlock),
		Frame_size: uint32(r.shape.frame),
		Frame_nr:   uint32(r.shape.frames),
	}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return fmt.Errorf("make receive ring: %w", err)
	}
	memory, err := unix.Mmap(r.fd, 0, r.shape.frame*r.shape.frames, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map receive ring: %w", err)
	}
	r.memory = memory
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}
	if err := unix.Bind(r.fd, to); err != nil {
		return fmt.Errorf("bind packet socket: %w", err)
	}
	return nil
}

func (r *ring) close() {
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
		r.memory = nil
	}
	if r.fd >= 0 {
		closePacketSocket(r.fd)
		r.fd = -1
	}
}

// closePacketSocket does not wait for the close, which waits for an RCU grace period of some 20 ms.
func closePacketSocket(fd int) {
	go unix.Close(fd)
}

// drain hands over every frame that the kernel has finished. The bytes are only valid during the call.
func (r *ring) drain(handle func(*Packet)) {
	for r.memory != nil {
		slot := r.memory[r.next*r.shape.frame : (r.next+1)*r.shape.frame]
		header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
		status := atomic.LoadUint32(&header.Status)
		if status&unix.TP_STATUS_USER == 0 {
			return
		}
		// The link-layer address follows the header, aligned to 16.
		address := slot[(unsafe.Sizeof(*header)+15)&^15:]
		p := Packet{
			Time:            time.Unix(int64(header.Sec), int64(header.Nsec)),
			Outgoing:        address[10] == unix.PACKET_OUTGOING,
			PartialChecksum: status&unix.TP_STATUS_CSUMNOTREADY != 0,
		}
		if binary.NativeEndian.Uint16(address[8:]) == unix.ARPHRD_ETHER || binary.NativeEndian.Uint16(address[8:]) == unix.ARPHRD_LOOPBACK {
			p.decodeEthernet(slot[header.Mac : int(header.Mac)+int(header.Snaplen)])
		} else {
			p.EtherType = binary.BigEndian.Uint16(address[2:])
			p.Frame = slot[header.Mac : int(header.Mac)+int(header.Snaplen)]
			p.Length = int(header.Len)
			if p.EtherType == unix.ETH_P_IP || p.EtherType == unix.ETH_P_IPV6 {
				_ = p.decodeIP(int(header.Net - header.Mac))
			}
		}
		handle(&p)
		atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % r.shape.frames
	}
}

// drops returns how many frames did not fit into the ring since the last call.
func (r *ring) drops() (int, error) {
	if r.fd < 0 {
		return 0, nil
	}
	stats, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("read packet statistics: %w", err)
	}
	return int(stats.Drops), nil
}

// networkOrder swaps the bytes of a number that the kernel wants as on the wire.
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], n)
	return binary.NativeEndian.Uint16(b[:])
}
