package main

import (
	"context"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/flows"
	"github.com/urfave/cli/v2"
)

func (p *program) connectionsWatchCommand() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "print what happens to connections, as a log of translations",
		Description: "Prints a line when a connection begins and when it ends: the time, where it comes from and goes to, what the translation " +
			"made of that, and which entry of the policy translated it or let it pass; at its end how long it lasted, and what it carried. " +
			"So the lines tell who had an outside address and port at a time. If the kernel tells more than can be taken, a line says how " +
			"many of its messages were lost, and when; then the kernel's table is read, and what began and ended meanwhile is printed. " +
			"It ends with SIGINT or SIGTERM.",
		Flags: placeFlags(append(filterFlags(),
			&cli.StringSliceFlag{Name: "events", Usage: "print `EVENTS`: new, update and destroy, separated by commas (default: new,destroy)"},
			&cli.BoolFlag{Name: "existing", Usage: "print the connections that are open first"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `FORMAT`: table, wide or json (an object on a line)"},
		)...),
		Action: p.watchConnections,
	}
}

func (p *program) watchConnections(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	format := c.String("output")
	switch format {
	case "table", "wide", "json":
	case "yaml":
		return usagef("a watch has no end, and a YAML document has one; there are table, wide and json")
	default:
		return usagef("no such output format: %s; there are table, wide and json", format)
	}
	events, err := readEvents(c.StringSlice("events"))
	if err != nil {
		return err
	}
	x, err := p.openConnections(c, true)
	if err != nil {
		return err
	}
	defer x.close()
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
	// A later signal ends it at once, whatever it waits for. One that comes with the
	// first is the same word said twice: timeout(1) tells the process and its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	defer func() {
		if ctx.Err() == nil {
			stop()
		}
	}()
	var w *conntrack.Watch
	err = x.NetNS.Do(func() (err error) {
		w, err = conntrack.Listen(conntrack.ListenOptions{
			Updates: slices.Contains(events, conntrack.EventUpdate), Existing: c.Bool("existing")})
		return err
	})
	if err != nil {
		return err
	}
	defer w.Close()
	if got := w.Buffer(); got < conntrack.DefaultBuffer {
		p.hintf("the kernel keeps %d KiB for the watch, not %d: bursts may be lost, which is told; raise the sysctl net.core.rmem_max, "+
			"or run it as root of the host", got>>10, conntrack.DefaultBuffer>>10)
	}
	judges, err := p.keepJudge(ctx, x)
	if err != nil {
		return err
	}
	log := &flowLog{flowList: newFlowList(p.stdout, format, time.Time{}), filter: x.filter, events: events, judges: judges}
	log.heading()
	err = w.Run(ctx, log.event, log.idle)
	if err == nil {
		err = log.end()
	}
	if log.uncounted && format != "json" {
		p.hintf("packets and bytes are counted of connections that begin with gateway.conntrack.accounting: true in the policy " +
			"(or net.netfilter.nf_conntrack_acct=1)")
	}
	return err
}

func eventWords() []string { return []string{"new", "update", "destroy"} }

// readEvents gives the kinds of event that are to be printed.
func readEvents(values []string) ([]conntrack.EventKind, error) {
	if len(values) == 0 {
		return []conntrack.EventKind{conntrack.EventNew, conntrack.EventDestroy}, nil
	}
	var kinds []conntrack.EventKind
	for _, text := range values {
		i := slices.Index(eventWords(), strings.TrimSpace(text))
		if i < 0 {
			return nil, usagef("--events %s: %v", shownValue(text), notOneOf("event", text, eventWords(), ""))
		}
		kinds = append(kinds, []conntrack.EventKind{conntrack.EventNew, conntrack.EventUpdate, conntrack.EventDestroy}[i])
	}
	return kinds, nil
}

// flowLog prints what happens.
type flowLog struct {
	*flowList
	filter *flowFilter
	events []conntrack.EventKind
	judges *judges
	labels labels
}

// event prints one event, if it is asked for.
func (l *flowLog) event(e *conntrack.Event) error {
	switch e.Kind {
	case conntrack.EventNew, conntrack.EventOpen:
		j := l.judges.judge(&e.Flow)
		e.Label = l.labels.label(&j)
		if e.Kind == conntrack.EventNew && !slices.Contains(l.events, e.Kind) || !l.wants(e, &j) {
			return nil
		}
		l.write(e, &j)
	case conntrack.EventUpdate, conntrack.EventDestroy:
		if !slices.Contains(l.events, e.Kind) {
			return nil
		}
		j := l.labels.of(e.Label)
		if j == nil {
			now := l.judges.judge(&e.Flow)
			j = &now
		}
		if !l.wants(e, j) {
			return nil
		}
		l.write(e, j)
	default:
		l.note(e)
	}
	if len(l.buffer) >= flushAt {
		l.flush()
	}
	return l.failed
}

func (l *flowLog) wants(e *conntrack.Event, j *flows.Judgement) bool {
	return l.filter.kernel.Match(&e.Flow) && l.filter.matchesRest(&e.Flow) && l.filter.matchesPolicy(j)
}

// idle writes what is printed as soon as nothing more is to come at once.
func (l *flowLog) idle() error {
	l.flush()
	return l.failed
}

// labels number what the policy says of connections, so that a connection has
// at its end the entry that it began with, whatever was applied meanwhile.
// Number 0 is none: there are more than 65,535.
type labels struct {
	numbers map[label]uint16
	list    []flows.Judgement
}

// label is as much of a judgement as the log prints.
type label struct{ entry, place, from, to string }

func (l *labels) label(j *flows.Judgement) uint16 {
	if l.numbers == nil {
		l.numbers = map[label]uint16{}
	}
	place := ""
	if j.Origin.Place.File != "" {
		place = j.Origin.Place.String()
	}
	key := label{j.Origin.Entry, place, j.From, j.To}
	n, known := l.numbers[key]
	if !known && len(l.list) < 0xffff {
		l.list = append(l.list, flows.Judgement{Origin: j.Origin, From: j.From, To: j.To})
		n = uint16(len(l.list))
		l.numbers[key] = n
	}
	return n
}

// of gives what was labelled, or nil.
func (l *labels) of(n uint16) *flows.Judgement {
	if n == 0 {
		return nil
	}
	return &l.list[n-1]
}

// judges gives the judge of the policy that is applied.
type judges struct {
	next <-chan *flows.Judge
	now  *flows.Judge // nil: nothing is applied
}

func (j *judges) judge(f *conntrack.Flow) flows.Judgement {
	select {
	case j.now = <-j.next:
	default:
	}
	if j.now == nil {
		return flows.Judgement{}
	}
	return j.now.Judge(f)
}

const (
	// appliedEvery is how often the state is looked at for another policy.
	appliedEvery = time.Second
	// judgeEvery is how often the host's routes and addresses are read again.
	// They are read less often where that takes more than a hundredth of the time.
	judgeEvery = time.Minute
)

// keepJudge makes a judge, and another one when another policy is applied, and
// now and then for the host's routes. An apply is noticed when it is done; a
// connection that begins in the second after may be judged by the policy before.
func (p *program) keepJudge(ctx context.Context, x *connections) (*judges, error) {
	begin := time.Now()
	first, err := x.judge()
	if err != nil {
		return nil, err
	}
	next := make(chan *flows.Judge)
	seen, _ := x.State.Load()
	go func() {
		took, last := time.Since(begin), time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(appliedEvery):
			}
			now, err := x.State.Load()
			if err != nil {
				continue // it is being written, or will be readable again
			}
			same := seen != nil && now.Generation == seen.Generation && (now.Applied == nil) == (seen.Applied == nil) &&
				(now.Applied == nil || now.Applied.Digest == seen.Applied.Digest && now.Applied.Time.Equal(seen.Applied.Time))
			if same && time.Since(last) < max(judgeEvery, 100*took) {
				continue
			}
			begin := time.Now()
			var judge *flows.Judge
			if now.Applied != nil {
				applied, err := x.Applied(ctx)
				if err == nil && applied != nil {
					judge, err = applied.Judge()
				}
				if err != nil {
					continue
				}
			}
			seen, took, last = now, time.Since(begin), time.Now()
			select {
			case next <- judge:
			case <-ctx.Done():
				return
			}
		}
	}()
	return &judges{next: next, now: first}, nil
}
