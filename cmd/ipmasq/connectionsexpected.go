package main

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/ipmasq/ipmasq/pkg/conntrack"
	"github.com/ipmasq/ipmasq/pkg/policy"
	"github.com/urfave/cli/v2"
)

// expectedDocument is connections list --expected.
type expectedDocument struct {
	FormatVersion int                   `json:"format_version"`
	Expected      []expectationDocument `json:"expected"`
}

type expectationDocument struct {
	Protocol  string         `json:"protocol"`
	Family    string         `json:"family"`
	Expects   endsDocument   `json:"expects"`
	Helper    string         `json:"helper,omitempty"`
	Entry     string         `json:"entry,omitempty"`
	Timeout   int64          `json:"timeout"`
	Permanent bool           `json:"permanent,omitempty"`
	Inactive  bool           `json:"inactive,omitempty"`
	ID        uint32         `json:"id"`
	Master    masterDocument `json:"master"`
}

type masterDocument struct {
	Protocol string       `json:"protocol"`
	Before   endsDocument `json:"before"`
}

// endsDocument is where packets come from and go to; what is left out may be
// any.
type endsDocument struct {
	Source          string  `json:"source,omitempty"`
	SourcePort      uint16  `json:"source_port,omitempty"`
	Destination     string  `json:"destination,omitempty"`
	DestinationPort uint16  `json:"destination_port,omitempty"`
	ICMPID          *uint16 `json:"icmp_id,omitempty"`
}

// listExpected lists the connections that helpers have announced. They are few:
// the kernel bounds how many a connection may have.
func (p *program) listExpected(c *cli.Context) error {
	filter, err := readFilter(c)
	if err != nil {
		return err
	}
	switch {
	case filter.given || c.IsSet("sort") || c.IsSet("limit"):
		return usagef("--expected lists all that helpers have announced: filters, --sort and --limit are for connections")
	case c.Bool("stream"):
		return usagef("--expected is one document: --stream is for connections")
	}
	x, err := p.openConnections(c, true)
	if err != nil {
		return err
	}
	defer x.close()
	judge, err := x.judge()
	if err != nil {
		return err
	}
	d := expectedDocument{FormatVersion: formatVersion, Expected: []expectationDocument{}}
	err = x.Expectations(func(e *conntrack.Expectation) bool {
		entry := ""
		if judge != nil {
			// What comes of it belongs to the entry of its master.
			entry = judge.Judge(&conntrack.Flow{
				Family: e.Family, Protocol: e.Protocol, Status: conntrack.StatusExpected, Master: e.Master, MasterProtocol: e.MasterProtocol,
			}).Origin.Entry
		}
		d.Expected = append(d.Expected, expectationJSON(e, entry))
		return true
	})
	if err != nil {
		return err
	}
	if c.String("output") == "wide" {
		p.printExpected(c, p.stdout, &d)
		return nil
	}
	return p.output(c, func() any { return d }, func(w io.Writer) { p.printExpected(c, w, &d) })
}

func expectationJSON(e *conntrack.Expectation, entry string) expectationDocument {
	family := "ipv4"
	if e.Family == conntrack.IPv6 {
		family = "ipv6"
	}
	return expectationDocument{
		Protocol: policy.ProtocolName(e.Protocol), Family: family, Helper: e.Helper, Entry: entry,
		Expects: masked(&e.Tuple, &e.Mask), Timeout: int64(e.Timeout / time.Second), ID: e.ID,
		Permanent: e.Flags&conntrack.ExpectationPermanent != 0, Inactive: e.Flags&conntrack.ExpectationInactive != 0,
		Master: masterDocument{policy.ProtocolName(e.MasterProtocol), endsDocument{
			Source: e.Master.Source.String(), SourcePort: e.Master.SourcePort,
			Destination: e.Master.Destination.String(), DestinationPort: e.Master.DestinationPort,
		}},
	}
}

// masked leaves out what may be any.
func masked(t, mask *conntrack.Tuple) endsDocument {
	var d endsDocument
	if anyBits(mask.Source) {
		d.Source = t.Source.String()
	}
	if anyBits(mask.Destination) {
		d.Destination = t.Destination.String()
	}
	if mask.SourcePort != 0 {
		d.SourcePort = t.SourcePort
	}
	if mask.DestinationPort != 0 {
		d.DestinationPort = t.DestinationPort
	}
	return d
}

func anyBits(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

func (p *program) printExpected(c *cli.Context, w io.Writer, d *expectedDocument) {
	var t columns
	t.add("", "PROTOCOL", "SOURCE", "DESTINATION", "HELPER", "ENTRY", "TIMEOUT", "MASTER")
	for i := range d.Expected {
		e := &d.Expected[i]
		t.add("", e.Protocol, endText(e.Expects.Source, e.Expects.SourcePort), endText(e.Expects.Destination, e.Expects.DestinationPort),
			orDash(e.Helper), orDash(e.Entry), string(appendDuration(nil, time.Duration(e.Timeout)*time.Second)),
			e.Master.Protocol+" "+endText(e.Master.Before.Source, e.Master.Before.SourcePort)+" > "+endText(e.Master.Before.Destination, e.Master.Before.DestinationPort))
	}
	t.print(p, c, w)
}

// endText is an end of which parts may be any.
func endText(address string, port uint16) string {
	a, err := netip.ParseAddr(address)
	switch {
	case err != nil && port == 0:
		return "any"
	case err != nil:
		return fmt.Sprintf("any:%d", port)
	}
	return string(appendEnd(nil, a, port))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
