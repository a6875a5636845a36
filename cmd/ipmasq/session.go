package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/compile"
)

// session finds the SSH connection that the command is run over: from its own
// environment, else from that of the processes that started it, since sudo(8)
// and su(1) take the variable away. Nil where there is none, or none that may
// be read.
func (p *program) session() *compile.Session {
	if s := parseSession(p.getenv("SSH_CONNECTION")); s != nil {
		return s
	}
	// A process is never its own ancestor; the bound is for what reads oddly.
	for pid, n := os.Getppid(), 0; pid > 1 && n < 100; n++ {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if value, ok := bytes.CutPrefix(variable, []byte("SSH_CONNECTION=")); ok {
				if s := parseSession(string(value)); s != nil {
					return s
				}
			}
		}
		pid = parent(pid)
	}
	return nil
}

// parent gives the process that started another one, or 0.
func parent(pid int) (ppid int) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name, in brackets, may hold anything: proc_pid_stat(5).
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	state := ""
	_, _ = fmt.Sscan(rest, &state, &ppid)
	return ppid
}

// parseSession reads SSH_CONNECTION: the client's address and port, and the
// server's (ssh(1)).
func parseSession(text string) *compile.Session {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return nil
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(fields[2*i])
		if err != nil {
			return nil
		}
		port := uint16(0)
		if _, err := fmt.Sscan(fields[2*i+1], &port); err != nil {
			return nil
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), port)
	}
	return &compile.Session{Client: ends[0], Server: ends[1]}
}
