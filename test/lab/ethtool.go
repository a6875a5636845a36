package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value; ethtoolRequest is struct ifreq with a pointer to it.
type ethtoolValue struct{ cmd, data uint32 }

type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// NoOffload has an interface compute its checksums and send no packet above its MTU, as a wire would carry them.
// It holds for what the host sends; the other end of a veth has its own setting.
func (h *Host) NoOffload(name string) {
	h.lab.t.Helper()
	h.must(h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer unix.Close(fd)
		// In this order: segmentation offload needs checksum offload.
		for _, cmd := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_STXCSUM} {
			value := ethtoolValue{cmd: cmd}
			request := ethtoolRequest{data: unsafe.Pointer(&value)}
			copy(request.name[:unix.IFNAMSIZ-1], name)
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
			if errno != 0 {
				return fmt.Errorf("ethtool %#x of %s: %w", cmd, name, errno)
			}
		}
		return nil
	}))
}
