package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipmasq/ipmasq/pkg/compile"
	"github.com/ipmasq/ipmasq/pkg/conntrack"
)

// Only a yes is one.
func TestConfirmed(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes \n": true, "\n": false, "": false, "n\n": false, "yet\n": false, "no\ny\n": false} {
		var asked bytes.Buffer
		p := program{stdin: strings.NewReader(answer), stderr: &asked}
		if got := p.confirmed("kill 2 connections?"); got != want {
			t.Errorf("%q: %v", answer, got)
		}
		if asked.String() != "ipmasq: kill 2 connections? [y/N] " {
			t.Errorf("asked %q", asked.String())
		}
	}
}

// What is kept of a connection is all that names it.
func TestDoomed(t *testing.T) {
	_, list, _ := testFlows()
	for i := range list {
		f := &list[i].Flow
		if !f.Reply.Source.IsValid() {
			continue // the kernel has none without addresses
		}
		f.Reply.Zone = 9
		d := doom(f)
		want := conntrack.Flow{Family: f.Family, Protocol: f.Protocol, Zone: f.Zone, ID: f.ID, Reply: f.Reply}
		if got := d.flow(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// The server sees what a port forward has made of the destination.
func TestIsSession(t *testing.T) {
	_, list, _ := testFlows()
	client, server := netip.MustParseAddrPort("[fd00::1]:65535"), netip.MustParseAddrPort("[fd00::10]:8080")
	for i := range list {
		if got := isSession(&compile.Session{Client: client, Server: server}, &list[i].Flow); got != (i == 1) {
			t.Errorf("flow %d: %v", i, got)
		}
	}
}
