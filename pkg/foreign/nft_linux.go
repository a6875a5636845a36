package foreign

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/ipmasq/ipmasq/pkg/nfnetlink"
	"golang.org/x/sys/unix"
)

// own is the table of ours, which is not of interest here.
const own = "inet ipmasq"

const (
	nftaTableHandle = 4
	hookDevices     = 4 // NFTA_HOOK_DEVS, of Linux 5.5
	deviceName      = 1 // NFTA_DEVICE_NAME
	devicePrefix    = 2 // NFTA_DEVICE_PREFIX, of Linux 6.16
	tableDormant    = 1
	hookIngress     = 5 // NF_INET_INGRESS, of inet
	netdevEgress    = 1 // NF_NETDEV_EGRESS
)

// Read reads the rules that others have in the calling thread's network namespace.
// What cannot be read is in Problems.
func Read() (*Rules, error) { return read(true) }

// Chains reads their chains without the rules of nf_tables.
func Chains() (*Rules, error) { return read(false) }

func read(rules bool) (*Rules, error) {
	c, err := nfnetlink.Dial()
	if err == nil {
		defer c.Close()
		_, err = c.Generation()
	}
	if noNFT(err) {
		out := &Rules{}
		out.readLegacy()
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the rules of others: %w", err)
	}
	const attempts = 20
	for range attempts {
		before, err := c.Generation()
		if err != nil {
			return nil, fmt.Errorf("read the rules of others: %w", err)
		}
		r := &reader{conn: c, tables: map[string]*Table{}, sets: map[string]*set{}}
		err = r.read(rules)
		if err != nil && !errors.Is(err, nfnetlink.ErrInterrupted) && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("read the rules of others: %w", err)
		}
		if after, gerr := c.Generation(); gerr != nil || after != before || err != nil {
			continue
		}
		out := &Rules{Own: r.own}
		for _, t := range r.order {
			t.Kind = kindOf(t)
			out.Add(t)
		}
		out.readLegacy()
		return out, nil
	}
	return nil, fmt.Errorf("read the rules of others: %w (%d times in a row)", nfnetlink.ErrInterrupted, attempts)
}

// noNFT says whether that is what a kernel answers that has no nf_tables.
func noNFT(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}

// reader reads nf_tables.
type reader struct {
	conn   *nfnetlink.Conn
	tables map[string]*Table // by family and name
	order  []*Table
	own    uint64
	sets   map[string]*set // by table and name
	links  map[uint32]string
}

func (r *reader) dump(msg int, each func(m nfnetlink.Message)) error {
	return r.conn.Dump(nfnetlink.Nftables(msg), unix.AF_UNSPEC, nil, func(m nfnetlink.Message) error { each(m); return nil })
}

func (r *reader) read(rules bool) error {
	err := r.dump(unix.NFT_MSG_GETTABLE, func(m nfnetlink.Message) {
		t := &Table{Family: nfnetlink.FamilyName(m.Family())}
		dormant := false
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_TABLE_NAME:
				t.Name = a.String()
			case unix.NFTA_TABLE_FLAGS:
				dormant = a.Uint32()&tableDormant != 0
			case nftaTableHandle:
				t.Number = a.Uint64()
			}
		}
		switch name := t.Family + " " + t.Name; {
		case name == own:
			r.own = t.Number
		case t.Family != "" && !dormant:
			r.tables[name] = t
			r.order = append(r.order, t)
		}
	})
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	if len(r.tables) == 0 {
		return nil
	}
	if err := r.chains(); err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	if !rules {
		return nil
	}
	if r.links, err = links(); err != nil {
		return err
	}
	if err := r.listSets(); err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	if err := r.listRules(); err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	return nil
}

// links are the interfaces by their indexes: rules may name them so.
func links() (map[uint32]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[uint32]string{}
	for _, l := range all {
		out[uint32(l.Index)] = l.Name
	}
	return out, nil
}

func (r *reader) chains() error {
	return r.dump(unix.NFT_MSG_GETCHAIN, func(m nfnetlink.Message) {
		c := &Chain{}
		var table string
		hook := uint32(0)
		hooked := false
		var devices []string // one that is among several stands in both attributes
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_CHAIN_TABLE:
				table = a.String()
			case unix.NFTA_CHAIN_NAME:
				c.Name = a.String()
			case unix.NFTA_CHAIN_TYPE:
				c.Type = a.String()
			case unix.NFTA_CHAIN_POLICY:
				c.Drops = a.Uint32() == 0
			case unix.NFTA_CHAIN_COUNTERS:
				c.Counted, c.Packets = true, packets(a.Bytes())
			case unix.NFTA_CHAIN_HOOK:
				hooked = true
				for h := nfnetlink.Attributes(a.Bytes()); h.Next(); {
					switch h.Type() {
					case unix.NFTA_HOOK_HOOKNUM:
						hook = h.Uint32()
					case unix.NFTA_HOOK_PRIORITY:
						c.Priority = int(int32(h.Uint32()))
					case unix.NFTA_HOOK_DEV:
						devices = []string{h.String()}
					case hookDevices:
						devices = deviceNames(h.Bytes())
					}
				}
			}
		}
		t := r.tables[nfnetlink.FamilyName(m.Family())+" "+table]
		if t == nil {
			return
		}
		if hooked {
			c.Hook, c.Devices = hookName(t.Family, hook), devices
		}
		t.Chains = append(t.Chains, c)
	})
}

func hookName(family string, hook uint32) Hook {
	switch {
	case family == "netdev" && hook == netdevEgress:
		return Egress
	case family == "netdev" || family == "inet" && hook == hookIngress:
		return Ingress
	}
	if hook < 5 {
		return [...]Hook{Prerouting, Input, Forward, Output, Postrouting}[hook]
	}
	return ""
}

// deviceNames reads NFTA_HOOK_DEVS.
func deviceNames(p []byte) (out []string) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case deviceName:
			out = append(out, a.String())
		case devicePrefix:
			out = append(out, a.String()+"*")
		}
	}
	return out
}

func packets(p []byte) (n uint64) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() == unix.NFTA_COUNTER_PACKETS {
			n = a.Uint64()
		}
	}
	return n
}

func (r *reader) listRules() error {
	byName := map[*Table]map[string]*Chain{}
	for _, t := range r.order {
		byName[t] = map[string]*Chain{}
		for _, c := range t.Chains {
			byName[t][c.Name] = c
		}
	}
	return r.dump(unix.NFT_MSG_GETRULE, func(m nfnetlink.Message) {
		var table, chain, comment string
		var expressions []byte
		var handle uint64
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_RULE_TABLE:
				table = a.String()
			case unix.NFTA_RULE_CHAIN:
				chain = a.String()
			case unix.NFTA_RULE_HANDLE:
				handle = a.Uint64()
			case unix.NFTA_RULE_EXPRESSIONS:
				expressions = a.Bytes()
			case unix.NFTA_RULE_USERDATA:
				comment = nfnetlink.Comment(a.Bytes())
			}
		}
		t := r.tables[nfnetlink.FamilyName(m.Family())+" "+table]
		if t == nil {
			return
		}
		if c := byName[t][chain]; c != nil {
			d := &decoder{reader: r, table: t, family: t.Family, rule: Rule{Comment: comment, Handle: handle}}
			c.Rules = append(c.Rules, d.decode(expressions)...)
		}
	})
}

// set is a set or map of others.
type set struct {
	keyLen   int
	flags    uint32
	elements []element
	whole    bool // all of its elements are here
}

type element struct {
	key     []byte
	end     bool // the first key behind a range
	other   bool // a range of a concatenation, or one that stands for all others
	verdict Verdict
	chain   string
}

// mostElements of a set are read.
const mostElements = 10_000

func (r *reader) listSets() error {
	type named struct {
		number              uint8
		family, table, name string
	}
	var all []named
	err := r.dump(unix.NFT_MSG_GETSET, func(m nfnetlink.Message) {
		s := &set{}
		n := named{number: m.Family(), family: nfnetlink.FamilyName(m.Family())}
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			switch a.Type() {
			case unix.NFTA_SET_TABLE:
				n.table = a.String()
			case unix.NFTA_SET_NAME:
				n.name = a.String()
			case unix.NFTA_SET_KEY_LEN:
				s.keyLen = int(a.Uint32())
			case unix.NFTA_SET_FLAGS:
				s.flags = a.Uint32()
			}
		}
		if r.tables[n.family+" "+n.table] != nil {
			r.sets[n.family+" "+n.table+" "+n.name] = s
			all = append(all, n)
		}
	})
	if err != nil {
		return err
	}
	for _, n := range all {
		if err := r.elements(r.sets[n.family+" "+n.table+" "+n.name], n.number, n.table, n.name); err != nil {
			return fmt.Errorf("elements of %s %s %s: %w", n.family, n.table, n.name, err)
		}
	}
	return nil
}

func (r *reader) elements(s *set, family uint8, table, name string) error {
	if s.flags&unix.NFT_SET_EVAL != 0 && s.flags&unix.NFT_SET_MAP == 0 {
		return nil // it changes with every packet
	}
	s.whole = true
	err := r.conn.Dump(nfnetlink.Nftables(unix.NFT_MSG_GETSETELEM), family, func(e *nfnetlink.Encoder) {
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, name)
	}, func(m nfnetlink.Message) error {
		for a := nfnetlink.Attributes(m.Attributes()); a.Next(); {
			if a.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for l := nfnetlink.Attributes(a.Bytes()); l.Next(); {
				if len(s.elements) == mostElements {
					s.whole = false
					return nil
				}
				s.elements = append(s.elements, parseElement(l.Bytes()))
			}
		}
		return nil
	})
	slices.SortStableFunc(s.elements, func(a, b element) int { return slices.Compare(a.key, b.key) })
	return err
}

func parseElement(p []byte) (el element) {
	const keyEnd, catchAll = 10, 2
	for a := nfnetlink.Attributes(p); a.Next(); {
		switch a.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			el.key = slices.Clone(value(a.Bytes()))
		case keyEnd:
			el.other = true
		case unix.NFTA_SET_ELEM_DATA:
			el.verdict, el.chain = verdict(a.Bytes())
		case unix.NFTA_SET_ELEM_FLAGS:
			el.end = a.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
			el.other = el.other || a.Uint32()&catchAll != 0
		}
	}
	return el
}

// value reads NFTA_DATA_VALUE.
func value(p []byte) []byte {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() == unix.NFTA_DATA_VALUE {
			return a.Bytes()
		}
	}
	return nil
}

// verdict reads NFTA_DATA_VERDICT.
func verdict(p []byte) (v Verdict, chain string) {
	for a := nfnetlink.Attributes(p); a.Next(); {
		if a.Type() != unix.NFTA_DATA_VERDICT {
			continue
		}
		for x := nfnetlink.Attributes(a.Bytes()); x.Next(); {
			switch x.Type() {
			case unix.NFTA_VERDICT_CODE:
				v = verdictOf(int32(x.Uint32()))
			case unix.NFTA_VERDICT_CHAIN:
				chain = x.String()
			}
		}
	}
	return v, chain
}

func verdictOf(code int32) Verdict {
	switch code {
	case 0:
		return Drop
	case 1:
		return Accept
	case unix.NFT_JUMP:
		return Jump
	case unix.NFT_GOTO:
		return Goto
	case unix.NFT_RETURN:
		return Return
	}
	return Other
}
