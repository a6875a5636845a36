package main

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/engine"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/urfave/cli/v2"
)

func (p *program) connectionsCommand() *cli.Command {
	return &cli.Command{
		Name:      "connections",
		Usage:     "list, watch and cut the connections that go through",
		ArgsUsage: "COMMAND",
		Description: "Reads the kernel's table of connections. Each has the entry of the policy that translated it or let it pass; " +
			"- is one that is not ours.",
		Subcommands: []*cli.Command{
			p.connectionsListCommand(), p.connectionsWatchCommand(), p.connectionsTopCommand(), p.connectionsKillCommand(), p.connectionsCountCommand(),
		},
	}
}

// connections is what a command on connections works with.
type connections struct {
	*engine.Engine
	*conntrack.Conn
	filter *flowFilter
	// judge gives the judge of the policy that was applied last, once that is
	// compiled; nil where nothing was applied.
	judge func() (*flows.Judge, error)
	close func()
}

// openConnections reads the filter flags and opens what they are about. The
// judge is made at once, aside, where it is wanted or a filter needs it.
func (p *program) openConnections(c *cli.Context, judged bool) (*connections, error) {
	filter, err := readFilter(c)
	if err != nil {
		return nil, err
	}
	e, closeHost, err := p.quietHost(c)
	if err != nil {
		return nil, err
	}
	x := &connections{Engine: e, filter: filter, judge: func() (*flows.Judge, error) { return nil, nil }, close: closeHost}
	if judged || filter.judged() {
		err = p.readApplied(c, x)
	}
	if err == nil {
		err = e.NetNS.Do(func() (err error) {
			x.Conn, err = conntrack.Open()
			return err
		})
	}
	if err != nil {
		closeHost()
		return nil, err
	}
	x.close = func() {
		x.Conn.Close()
		closeHost()
	}
	return x, nil
}

// readApplied finds the zones and entries that the filter names, and has the
// policy compiled meanwhile.
func (p *program) readApplied(c *cli.Context, x *connections) error {
	applied, err := x.Applied(c.Context)
	switch {
	case errors.Is(err, fs.ErrPermission) && !x.filter.judged():
		p.warnf("the entries are not known: %v", err)
		return nil
	case err != nil:
		return fmt.Errorf("find the entries of connections: %w", err)
	case applied == nil:
		return x.filter.resolve(nil)
	}
	if err := x.filter.resolve(applied.Policy); err != nil {
		return err
	}
	x.judge = sync.OnceValues(applied.Judge)
	go x.judge()
	return nil
}
