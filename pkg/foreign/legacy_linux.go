package foreign

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// layout is how the kernel lays out a rule of ip_tables or ip6_tables (struct
// ipt_entry, struct ip6t_entry).
type layout struct {
	family         string
	names          string // of the tables that are there
	domain, level  int
	address        int // the length of one
	interfaces     int // in, out and their masks, 16 bytes each
	proto          int
	flags, inverse int
	gotoFlag       byte
	offsets        int // of target and next rule
	counters       int
	matches        int
}

var layouts = [...]layout{
	{"ip", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, 4, 16, 80, 82, 83, 2, 88, 96, 112},
	{"ip6", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 16, 64, 128, 131, 132, 4, 140, 152 - packed, 168 - packed},
}

// packed is what the counters and what is behind them come earlier where C aligns
// numbers of 64 bits to 32, which it does on 386 alone.
var packed = map[bool]int{true: 4}[runtime.GOARCH == "386"]

// Socket options of both families, and the sizes of what they take.
const (
	getInfo     = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	getEntries  = 65
	nameSize    = 32
	infoSize    = 84
	targetHead  = 32
	interfaceLn = 16
)

// entriesHead is what stands before the entries: the name and the size.
var entriesHead = 40 - packed

// readLegacy reads the tables of ip_tables that the namespace has.
func (r *Rules) readLegacy() {
	for i := range layouts {
		l := &layouts[i]
		text, err := os.ReadFile(l.names)
		if errors.Is(err, os.ErrNotExist) {
			continue // no module, no rules
		}
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("%s tables of iptables-legacy: %v", l.family, err))
			continue
		}
		for _, name := range strings.Fields(string(text)) {
			t, err := l.read(name)
			if err != nil {
				r.Problems = append(r.Problems, fmt.Sprintf("the table %s %s of iptables-legacy: %v", l.family, name, err))
				continue
			}
			r.Add(t)
		}
	}
}

// AnyLegacy says whether the calling thread's network namespace has any table of
// ip_tables, or may have one.
func AnyLegacy() bool {
	for i := range layouts {
		names, err := os.ReadFile(layouts[i].names)
		if err == nil && len(names) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// HasLegacy says whether the kernel has ip_tables, for IPv4, and has its module
// loaded.
func HasLegacy() bool {
	_, err := os.Stat(layouts[0].names)
	return !errors.Is(err, os.ErrNotExist)
}

// AskLegacy asks for a table of ip_tables, or ip6_tables, which the kernel makes
// in the calling thread's network namespace if it can. It is [ErrNoTables] where
// the kernel has no such tables at all, and [os.ErrNotExist] where it has not
// this one.
func AskLegacy(v6 bool, table string) error {
	l := &layouts[0]
	if v6 {
		l = &layouts[1]
	}
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	info := make([]byte, infoSize)
	copy(info, table)
	err = getOption(fd, l.level, getInfo, info)
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = fmt.Errorf("%w: %w", ErrNoTables, err)
	}
	if err != nil {
		return fmt.Errorf("ask for the table %s %s of iptables-legacy: %w", l.family, table, err)
	}
	return nil
}

const legacyAttempts = 5

func (l *layout) read(name string) (*Table, error) {
	info, entries, err := l.entries(name)
	if err != nil {
		return nil, err
	}
	return l.parse(name, info, entries)
}

// entries asks for a table as the kernel has it.
func (l *layout) entries(name string) (info, entries []byte, err error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, fmt.Errorf("open a raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	for attempt := 1; ; attempt++ {
		info := make([]byte, infoSize)
		copy(info, name)
		if err := getOption(fd, l.level, getInfo, info); err != nil {
			return nil, nil, fmt.Errorf("ask for its size: %w", err)
		}
		size := binary.NativeEndian.Uint32(info[infoSize-4:])
		p := make([]byte, entriesHead+int(size))
		copy(p, name)
		binary.NativeEndian.PutUint32(p[nameSize:], size)
		err := getOption(fd, l.level, getEntries, p)
		if errors.Is(err, unix.EAGAIN) && attempt < legacyAttempts {
			continue // it was replaced in between
		}
		if err != nil {
			return nil, nil, fmt.Errorf("ask for its rules: %w", err)
		}
		return info, p[entriesHead:], nil
	}
}

// WriteLegacy writes the tables of ip_tables that the calling thread's network
// namespace has, as the kernel keeps them but without what they have counted:
// whoever takes a digest of it sees each change, and asks no program.
func WriteLegacy(w io.Writer) error {
	const counts = 16 // bytes
	for i := range layouts {
		l := &layouts[i]
		names, err := os.ReadFile(l.names)
		if errors.Is(err, os.ErrNotExist) {
			continue // no module, no rules
		}
		if err != nil {
			return fmt.Errorf("list the %s tables of iptables-legacy: %w", l.family, err)
		}
		for _, name := range strings.Fields(string(names)) {
			info, p, err := l.entries(name)
			if err != nil {
				return fmt.Errorf("the table %s %s of iptables-legacy: %w", l.family, name, err)
			}
			for offset := 0; offset < len(p); {
				e := p[offset:]
				if len(e) < l.matches || int(native16(e[l.offsets+2:])) < l.matches {
					return fmt.Errorf("the table %s %s of iptables-legacy: %w", l.family, name, errBroken)
				}
				clear(e[l.counters : l.counters+counts])
				offset += int(native16(e[l.offsets+2:]))
			}
			for _, part := range [][]byte{info, p} {
				if _, err := w.Write(part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// getOption is getsockopt(2) with a structure that is written and read.
func getOption(fd, level, option int, p []byte) error {
	size := uint32(len(p))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&p[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

var legacyHooks = [...]Hook{Prerouting, Input, Forward, Output, Postrouting}

// legacyPriority is that of ip_tables' tables (linux/netfilter_ipv4.h).
func legacyPriority(table string, hook Hook) int {
	switch table {
	case "raw":
		return -300
	case "mangle":
		return -150
	case "nat":
		if hook == Postrouting || hook == Input {
			return 100
		}
		return -100
	case "security":
		return 50
	}
	return 0
}

// errBroken is a table that is not laid out as it should be.
var errBroken = errors.New("it is not laid out as on this kind of machine")

// parse takes the table apart. A rule is at an offset; a chain begins at a hook's
// entry, or behind an entry with the target ERROR that has its name; the entry at
// a hook's underflow is the chain's policy.
func (l *layout) parse(name string, info, p []byte) (*Table, error) {
	t := &Table{Kind: XTLegacy, Family: l.family, Name: name}
	valid := binary.NativeEndian.Uint32(info[nameSize:])
	entry := func(hook int) uint32 { return binary.NativeEndian.Uint32(info[nameSize+4+4*hook:]) }
	underflow := func(hook int) uint32 { return binary.NativeEndian.Uint32(info[nameSize+24+4*hook:]) }
	var chain *Chain
	at := map[uint32]string{} // where the chains of jumps begin
	type jump struct {
		chain *Chain
		rule  int
		to    uint32
	}
	var jumps []jump
	for offset := uint32(0); int(offset) < len(p); {
		e := p[offset:]
		if len(e) < l.matches {
			return nil, errBroken
		}
		target, next := uint32(native16(e[l.offsets:])), uint32(native16(e[l.offsets+2:]))
		if int(target) < l.matches || int(next) > len(e) || next < target+targetHead {
			return nil, errBroken
		}
		policyOf := -1
		for h, hook := range legacyHooks {
			if valid&(1<<h) == 0 {
				continue
			}
			if entry(h) == offset {
				chain = &Chain{Name: strings.ToUpper(string(hook)), Hook: hook, Type: "filter", Priority: legacyPriority(name, hook)}
				if name == "nat" {
					chain.Type = "nat"
				}
				t.Chains = append(t.Chains, chain)
			}
			if underflow(h) == offset {
				policyOf = h
			}
		}
		targetName, data := cString(e[target+2:target+31]), e[target+targetHead:next]
		switch {
		case targetName == "ERROR":
			chain = &Chain{Name: cString(data)}
			at[offset+next] = chain.Name
			if int(offset+next) < len(p) { // the last one is the end
				t.Chains = append(t.Chains, chain)
			}
		case chain == nil:
			return nil, errBroken
		case policyOf >= 0:
			chain.Drops = len(data) >= 4 && int32(native32(data)) == -1
			chain.Counted, chain.Packets = true, binary.NativeEndian.Uint64(e[l.counters:])
		default:
			rule := l.rule(e[:target])
			rule.Counted, rule.Packets = true, binary.NativeEndian.Uint64(e[l.counters:])
			if targetName != "" {
				rule.Verdict, rule.To = xtTarget(targetName, e[target+31], data)
				rule.Marks, rule.FlowMarks = xtMark(targetName, e[target+31], data)
			} else if len(data) >= 4 {
				v := int32(native32(data))
				rule.Verdict = standard(v)
				if v >= 0 {
					if e[l.flags]&l.gotoFlag != 0 {
						rule.Verdict = Goto
					}
					jumps = append(jumps, jump{chain, len(chain.Rules), uint32(v)})
				}
			}
			chain.Rules = append(chain.Rules, rule)
		}
		offset += next
	}
	for _, c := range t.Chains {
		if n := len(c.Rules); c.Hook == "" && n > 0 {
			c.Rules = c.Rules[:n-1] // the return that iptables puts behind every chain
		}
	}
	for _, j := range jumps {
		j.chain.Rules[j.rule].To = at[j.to]
		if at[j.to] == "" { // to the rule behind it, as iptables writes a rule without a target
			j.chain.Rules[j.rule].Verdict = Other
		}
	}
	return t, nil
}

// standard is a verdict of the kernel's own target.
func standard(v int32) Verdict {
	switch v {
	case -1:
		return Drop
	case -2:
		return Accept
	case -5:
		return Return
	}
	if v >= 0 {
		return Jump
	}
	return Other
}

// rule reads the head and the matches of a rule.
func (l *layout) rule(e []byte) Rule {
	const notIn, notOut, notSource, notDestination, notProtocol = 0x01, 0x02, 0x08, 0x10, 0x40
	var r Rule
	n, inverse := l.address, e[l.inverse]
	address := func(field Field, a, mask []byte, not bool) {
		if t, any := masked(field, a, mask); !any {
			t.Not = not
			r.Tests = append(r.Tests, t)
		}
	}
	name := func(field Field, at int, not bool) {
		if s := wildcard(e[at:at+interfaceLn], e[at+2*interfaceLn:at+3*interfaceLn]); s != "" {
			r.Tests = append(r.Tests, Test{Field: field, Not: not, Names: []string{s}})
		}
	}
	name(In, l.interfaces, inverse&notIn != 0)
	name(Out, l.interfaces+interfaceLn, inverse&notOut != 0)
	address(Source, e[:n], e[2*n:3*n], inverse&notSource != 0)
	address(Destination, e[n:2*n], e[3*n:4*n], inverse&notDestination != 0)
	if proto := native16(e[l.proto:]); proto != 0 {
		r.Tests = append(r.Tests, Test{Field: Protocol, Not: inverse&notProtocol != 0, Ranges: [][2][]byte{{{byte(proto)}, {byte(proto)}}}})
	}
	const fragment, typeOfService, notFragment, notTypeOfService = 1, 2, 0x20, 0x04
	if flags := e[l.flags]; n == 4 && (flags&fragment != 0 || inverse&(notFragment|notTypeOfService) != 0) || n == 16 && flags&typeOfService != 0 {
		r.Tests = append(r.Tests, Test{Text: "a fragment, or a type of service"})
	}
	for p := e[l.matches:]; len(p) >= targetHead; {
		size := int(native16(p))
		if size < targetHead || size > len(p) {
			break
		}
		match, info := cString(p[2:31]), p[targetHead:size]
		if match == "comment" {
			r.Comment = xtComment(info)
		}
		r.Tests = append(r.Tests, xtMatch(match, p[31], info)...)
		p = p[size:]
	}
	return r
}

// wildcard reads an interface's name and the mask of the bytes that count: a name
// counts with its zero byte, unless all that begin like it are meant.
func wildcard(name, mask []byte) string {
	n := bytes.IndexByte(mask, 0)
	if n < 0 {
		n = len(mask)
	}
	if n == 0 {
		return ""
	}
	if bytes.IndexByte(name[:n], 0) >= 0 {
		return cString(name)
	}
	return string(name[:n]) + "*"
}

// masked gives the addresses of a network; any where all are meant.
func masked(field Field, a, mask []byte) (t Test, any bool) {
	if bytes.Equal(mask, make([]byte, len(mask))) {
		return t, true
	}
	low, high := make([]byte, len(a)), make([]byte, len(a))
	ended := false
	for i := range a {
		low[i], high[i] = a[i]&mask[i], a[i]|^mask[i]
		if ended && mask[i] != 0 || mask[i]&(^mask[i]>>1) != 0 {
			ip, _ := netip.AddrFromSlice(a)
			return Test{Text: fmt.Sprintf("%s %v with a mask that is no prefix", fieldNames[field], ip)}, false
		}
		ended = ended || mask[i] != 0xff
	}
	return Test{Field: field, Ranges: [][2][]byte{{low, high}}}, false
}

func cString(p []byte) string {
	s, _, _ := bytes.Cut(p, []byte{0})
	return string(s)
}
