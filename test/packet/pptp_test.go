package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// pptpMessage is a control message of PPTP (RFC 2637, 2): its header, and a body
// of zeros but for the 16 bit words that are given by their place.
func pptpMessage(kind uint16, size int, words map[int]uint16) []byte {
	m := make([]byte, size)
	binary.BigEndian.PutUint16(m, uint16(size))
	binary.BigEndian.PutUint16(m[2:], 1)
	binary.BigEndian.PutUint32(m[4:], 0x1a2b3c4d)
	binary.BigEndian.PutUint16(m[8:], kind)
	for at, word := range words {
		binary.BigEndian.PutUint16(m[at:], word)
	}
	return m
}

// pppFrame is a packet of PPP in GRE (RFC 2637, 4.1) for a call.
func pppFrame(from, to string, call uint16) []byte {
	const payload = "ppp."
	b := []byte{0x30, 0x01, 0x88, 0x0b, 0, byte(len(payload))}
	b = binary.BigEndian.AppendUint16(b, call)
	b = append(b, 0, 0, 0, 1) // sequence
	return lab.Raw{Header: lab.Between(from, to), Proto: protocolGRE, Payload: append(b, payload...)}.Bytes()
}

const protocolGRE = 47

// calls captures the packets of calls.
func calls(h *lab.Host) *lab.Capture {
	return h.Capture("eth0", lab.All(lab.Incoming, func(p *lab.Packet) bool { return p.Proto == protocolGRE }))
}

// callOf is the number of a packet's call.
func callOf(p lab.Packet) uint16 {
	gre := p.IP[20:] // no options
	return binary.BigEndian.Uint16(gre[6:])
}

// dialPPTP opens a call, and gives the numbers by which the client's call goes
// at both ends. The server's is 7.
func dialPPTP(t *testing.T, client, server *lab.Host, remote string) (inside, outside uint16) {
	t.Helper()
	accepted := acceptsOne(t, server, ":1723")
	c, err := client.DialTCP(lab.Patience, remote, lab.NoGreeting())
	if err != nil {
		t.Fatal(err)
	}
	s, open := <-accepted
	if !open {
		t.Fatal("the server did not accept")
	}
	t.Cleanup(func() { s.Close() })
	// carry sends a message, and gives what the other end reads.
	carry := func(from, to net.Conn, message []byte) []byte {
		t.Helper()
		got := make([]byte, len(message))
		_ = to.SetReadDeadline(time.Now().Add(lab.Patience))
		_, writeErr := from.Write(message)
		_, readErr := io.ReadFull(to, got)
		if err := errors.Join(writeErr, readErr); err != nil {
			t.Fatal(err)
		}
		return got
	}
	inside = 4711
	carry(c, s, pptpMessage(1, 156, map[int]uint16{12: 0x0100}))                   // start
	carry(s, c, pptpMessage(2, 156, map[int]uint16{12: 0x0100, 14: 0x0100}))       // done
	request := carry(c, s, pptpMessage(7, 168, map[int]uint16{12: inside, 14: 1})) // call out
	outside = binary.BigEndian.Uint16(request[12:])
	answer := carry(s, c, pptpMessage(8, 32, map[int]uint16{12: 7, 14: outside, 16: 0x0100})) // connected
	if peer := binary.BigEndian.Uint16(answer[14:]); peer != inside {
		t.Errorf("the answer is to call %d, want %d", peer, inside)
	}
	return inside, outside
}

// acceptsOne accepts one connection on a host.
func acceptsOne(t *testing.T, h *lab.Host, addr string) <-chan net.Conn {
	t.Helper()
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := listener.Accept(); err == nil {
			accepted <- c
		}
		listener.Close()
	}()
	return accepted
}

// Two clients inside call one server outside, and each packet of a call comes
// to whom it is for. The entry is for TCP alone; the helper sees to GRE.
func TestPPTPThroughMasquerade(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := applied(t, topo, zones+"masquerade: {from: lan, to: wan, protocol: tcp, helpers: pptp}\n")
	leaks := g.leaks(t)
	atServer := calls(topo.Server)
	numbers := map[uint16]bool{}
	for _, client := range []struct {
		host *lab.Host
		addr string
	}{{topo.LAN1, lab.LAN1}, {topo.LAN2, lab.LAN2}} {
		atClient := calls(client.host)
		inside, outside := dialPPTP(t, client.host, topo.Server, at(lab.Outside, 1723))
		if numbers[outside] {
			t.Errorf("two calls are %d outside", outside)
		}
		numbers[outside] = true
		atServer.Reset()
		topo.Server.SendPacket("eth0", pppFrame(lab.Outside, lab.GatewayUplink, outside))
		p, err := atClient.Wait(1, lab.Patience)
		if err != nil || p[0].Src.String() != lab.Outside || p[0].Dst.String() != client.addr || callOf(p[0]) != inside {
			t.Errorf("%s: %v, want one of call %d: %v", client.host.Name(), p, inside, err)
		}
		client.host.SendPacket("eth0", pppFrame(client.addr, lab.Outside, 7))
		p, err = atServer.Wait(1, lab.Patience)
		if err != nil || p[0].Src.String() != lab.GatewayUplink || callOf(p[0]) != 7 {
			t.Errorf("server: %v, want one of call 7 from the gateway: %v", p, err)
		}
	}
	// A call that nobody opened does not come in.
	unheard := calls(topo.LAN1)
	topo.Server.SendPacket("eth0", pppFrame(lab.Outside, lab.GatewayUplink, 99))
	unheard.Sync()
	if unheard.Count() != 0 {
		t.Errorf("%v", unheard)
	}
	leaks.none(t)
	g.delete(t)
}

// A client outside calls a server inside.
func TestPPTPThroughPortForward(t *testing.T) {
	t.Parallel()
	topo := lab.Gateway(t, lab.WithoutGuest())
	g := applied(t, topo, zones+"port_forward: {name: vpn, from: wan, protocol: tcp, ports: 1723, to: 192.168.2.10, helpers: pptp}\n")
	leaks := g.leaks(t)
	inside, outside := calls(topo.DMZ), calls(topo.Server)
	call, known := dialPPTP(t, topo.Server, topo.DMZ, at(lab.GatewayUplink, 1723))
	topo.DMZ.SendPacket("eth0", pppFrame(lab.DMZ1, lab.Outside, known))
	if p, err := outside.Wait(1, lab.Patience); err != nil || p[0].Src.String() != lab.GatewayUplink || callOf(p[0]) != call {
		t.Errorf("client: %v, want one of call %d from the gateway: %v", p, call, err)
	}
	topo.Server.SendPacket("eth0", pppFrame(lab.Outside, lab.GatewayUplink, 7))
	if p, err := inside.Wait(1, lab.Patience); err != nil || p[0].Src.String() != lab.Outside || callOf(p[0]) != 7 {
		t.Errorf("server: %v, want one of call 7 from the client: %v", p, err)
	}
	leaks.none(t)
	g.delete(t)
}
