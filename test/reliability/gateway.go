package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/ipmasq/ipmasq/test/lab"
)

// A command of a peer that takes longer is stuck.
const patience = 60 * time.Second

// gateway is a gateway with a peer on it, and the networks around.
type gateway struct {
	*lab.Topology
	t    lab.TB
	peer *peer
	dir  string
}

// install builds the networks, has the peer load its rules, and sees that they do the job.
func install(t lab.TB, p *peer) *gateway {
	t.Helper()
	topo := lab.Gateway(t, lab.WithoutDMZ(), lab.WithoutGuest())
	g := &gateway{Topology: topo, t: t, peer: p, dir: topo.Dir()}
	if err := g.begin(); err != nil {
		t.Fatalf("reliability: %s: %v", p.name, err)
	}
	return g
}

func (g *gateway) begin() error {
	// Each tool has its own way of switching it on; the job is about rules.
	g.GW.Sysctl("net.ipv4.ip_forward", "1")
	if err := g.configure(false); err != nil {
		return err
	}
	for _, d := range g.peer.daemons {
		if err := g.daemon(d); err != nil {
			return err
		}
	}
	if err := g.all(g.peer.start); err != nil {
		return err
	}
	g.Server.ServeTCP(":80")
	g.LAN1.ServeTCP(":8080")
	g.LAN1.ServeTCP(":8090")                              // for nobody outside
	g.Neighbor.Route("192.168.1.0/24", lab.GatewayUplink) // a neighbour who tries to get in
	return g.check()
}

// configure writes the peer's files, with the second port forward or without.
func (g *gateway) configure(second bool) error {
	for _, f := range g.peer.files {
		parsed, err := template.ParseFS(configurations, "peers/"+f.template)
		if err != nil {
			return fmt.Errorf("read configuration: %w", err)
		}
		var text strings.Builder
		if f.after != "" {
			first, err := os.ReadFile(g.expand(f.after))
			if err != nil {
				return fmt.Errorf("write %s: %w", f.path, err)
			}
			text.Write(first)
		}
		if err := parsed.Execute(&text, map[string]any{"Second": second, "Iptables": g.peer.iptables, "Dir": g.dir}); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
		path := g.expand(f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (g *gateway) expand(s string) string { return strings.ReplaceAll(s, here, g.dir) }

func (g *gateway) command(ctx context.Context, words []string) *lab.Cmd {
	expanded := make([]string, len(words))
	for i, word := range words {
		expanded[i] = g.expand(word)
	}
	return g.GW.Command(ctx, expanded[0], expanded[1:]...)
}

// all runs commands one after the other.
func (g *gateway) all(commands [][]string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, words := range commands {
		if out, err := g.command(ctx, words).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
		}
	}
	return nil
}

// daemon starts a daemon and waits until it is ready. The lab ends it.
func (g *gateway) daemon(d daemon) error {
	c := g.command(context.Background(), d.command)
	var stderr bytes.Buffer // read once the daemon has ended
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	stop := func() {
		_ = c.Close()
		<-ended
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := g.all([][]string{d.ready})
		switch {
		case err == nil:
			g.t.Cleanup(stop)
			return nil
		case time.Now().After(deadline):
			stop()
			return fmt.Errorf("wait for %s: %w\n%s", d.command[0], err, stderr.String())
		}
	}
}

// check sees that the rules do the job: translate, forward one port, and let nothing else in.
func (g *gateway) check() error {
	c, err := g.LAN1.DialTCP(lab.Patience, lab.Outside+":80")
	if err != nil {
		return fmt.Errorf("to the outside: %w", err)
	}
	defer c.Close()
	if got := c.Seen().Peer.Addr().String(); got != lab.GatewayUplink {
		return fmt.Errorf("to the outside: the server sees %s", got)
	}
	in, err := g.Neighbor.DialTCP(lab.Patience, lab.GatewayUplink+":80")
	if err != nil {
		return fmt.Errorf("to the forwarded port: %w", err)
	}
	defer in.Close()
	if got := in.Seen().Local.String(); got != lab.LAN1+":8080" {
		return fmt.Errorf("the forwarded port leads to %s", got)
	}
	if c, err := g.Neighbor.DialTCP(lab.Silence, lab.LAN1+":8090"); err == nil {
		c.Close()
		return errors.New("a neighbour gets in")
	}
	return nil
}

// reload loads the rules anew, and returns how long the peer took.
func (g *gateway) reload(second bool) (time.Duration, error) {
	if err := g.configure(second); err != nil {
		return 0, err
	}
	start := time.Now()
	err := g.all(g.peer.reload)
	return time.Since(start), err
}
