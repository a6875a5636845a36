package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	floodBatch = 32
	floodTick  = 200 * time.Microsecond
	floodLimit = 10 * time.Minute
)

// Load is a flood in progress.
type Load struct {
	host   *Host
	cancel context.CancelFunc
	sent   atomic.Int64
	done   chan struct{}
	err    error
}

// Flood sends the same packet again and again at a rate in packets a second, evenly, until ctx ends, and returns
// how many were sent. What one CPU cannot send is not caught up later. It ends after ten minutes at the latest.
func (h *Host) Flood(ctx context.Context, name string, packet []byte, rate int) (int64, error) {
	h.lab.t.Helper()
	load := h.StartFlood(ctx, name, packet, rate)
	<-load.done
	return load.Stop()
}

// StartFlood is [Host.Flood] in the background. The next hop is resolved before it returns.
func (h *Host) StartFlood(ctx context.Context, name string, packet []byte, rate int) *Load {
	h.lab.t.Helper()
	return h.StartSeries(ctx, name, packet, rate, nil)
}

// StartSeries is [Host.StartFlood] of packets that differ: write changes a copy of the packet into the one of number
// n, the first being 0. It does not see the packet's checksums put right.
func (h *Host) StartSeries(ctx context.Context, name string, packet []byte, rate int, write func(packet []byte, n int64)) *Load {
	h.lab.t.Helper()
	if rate <= 0 {
		h.must(fmt.Errorf("flood at %d packets a second", rate))
	}
	mac, err := h.nextHop(name, packet)
	h.must(err)
	fd, to, err := h.packetSocket(name, mac, packet)
	h.must(err)
	ctx, cancel := context.WithTimeout(ctx, floodLimit)
	load := &Load{host: h, cancel: cancel, done: make(chan struct{})}
	h.lab.track(load)
	go func() {
		defer close(load.done)
		load.err = load.run(ctx, fd, to, series{packet, write}, rate)
	}()
	return load
}

// Sent returns how many packets were sent so far.
func (l *Load) Sent() int64 { return l.sent.Load() }

// Stop ends the flood, waits for it, and returns how many packets were sent.
func (l *Load) Stop() (int64, error) {
	l.host.lab.forget(l)
	l.cancel()
	<-l.done
	return l.sent.Load(), l.err
}

// Close ends the flood.
func (l *Load) Close() error {
	_, err := l.Stop()
	return err
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [unsafe.Sizeof(uintptr(0)) - 4]byte
}

// series is a packet and what makes each of its copies differ, if anything.
type series struct {
	packet []byte
	write  func(packet []byte, n int64)
}

func (l *Load) run(ctx context.Context, fd int, to *unix.SockaddrLinklayer, packets series, rate int) error {
	// Sleeping in the kernel is exact to some 50 µs; the Go runtime's timers may be a millisecond late.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name := unix.RawSockaddrLinklayer{
		Family: unix.AF_PACKET, Protocol: to.Protocol, Ifindex: int32(to.Ifindex), Halen: to.Halen, Addr: to.Addr,
	}
	var copies [floodBatch][]byte
	var vectors [floodBatch]unix.Iovec
	var batch [floodBatch]mmsghdr
	for i := range batch {
		copies[i] = packets.packet
		if packets.write != nil {
			copies[i] = bytes.Clone(packets.packet)
		}
		vectors[i].Base = &copies[i][0]
		vectors[i].SetLen(len(copies[i]))
		header := &batch[i].header
		header.Name, header.Namelen = (*byte)(unsafe.Pointer(&name)), uint32(unsafe.Sizeof(name))
		header.Iov = &vectors[i]
		header.SetIovlen(1)
	}
	start, skipped := time.Now(), int64(0)
	for ctx.Err() == nil {
		due := int64(time.Since(start).Seconds()*float64(rate)) + 1 - skipped - l.sent.Load()
		if due <= 0 {
			next := time.Duration(float64(l.sent.Load()+skipped) / float64(rate) * float64(time.Second))
			// Wake up often enough to see the end, and not so often that a batch is one packet.
			pause := min(max(next-time.Since(start), floodTick), 10*time.Millisecond)
			ts := unix.NsecToTimespec(pause.Nanoseconds())
			_ = unix.Nanosleep(&ts, nil)
			continue
		}
		if late := due - int64(rate)/10 - floodBatch; late > 0 {
			skipped += late // more than 100 ms behind
			due -= late
		}
		n := min(due, floodBatch)
		for i := range n {
			if packets.write != nil {
				packets.write(copies[i], l.sent.Load()+i)
			}
		}
		sent, err := sendBatch(fd, batch[:n])
		l.sent.Add(int64(sent))
		if err != nil {
			return err
		}
	}
	runtime.KeepAlive(copies)
	return nil
}

func sendBatch(fd int, batch []mmsghdr) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch[0])), uintptr(len(batch)), 0, 0, 0)
	switch {
	case errno == 0:
		return int(n), nil
	case errors.Is(errno, unix.EINTR), errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.ENOBUFS):
		return 0, nil
	}
	return 0, fmt.Errorf("flood: %w", errno)
}
