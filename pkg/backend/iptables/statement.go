package iptables

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/ipmasq/ipmasq/pkg/ruleset"
)

// statements gives the steps of a rule; the last is its action, whose target is
// not told here. More is what else a packet must be.
func (t *translator) statements(r *ruleset.Rule, lines int) (steps []step, more condition, err error) {
	last := step{}
	if t.place.mode == dropping && r.Action.Kind != ruleset.Drop {
		return []step{{}}, nil, nil // nat does all that but drop
	}
	for i := range r.Do {
		s := &r.Do[i]
		switch s.Kind {
		case ruleset.RateUnder, ruleset.RateOver, ruleset.CountOver:
			var limit string
			// A log is there for people, who see it a little more often then.
			logs := s.Set == "" && s.Kind == ruleset.RateUnder && i+1 < len(r.Do) && r.Do[i+1].Kind == ruleset.Log
			if limit, err = t.limit(s, r, logs); err != nil {
				return nil, nil, err
			}
			last.limits = append(last.limits, limit)
		case ruleset.SetAddress:
			if t.place.mode != early {
				return nil, nil, errAddress
			}
			// Of an error about a flow that was translated, nat sees to the
			// address (nf_nat_icmp_reply_translation). There is nobody who does
			// that of other flows: those errors are dropped with what leaks.
			more = append(more, atom{slot: match, text: "-m conntrack %s--ctstate DNAT"})
		default:
			if s.Kind == ruleset.SetMaxSeg {
				// The kernel wants to see that in the rule itself.
				syn, err := masked(ruleset.TCPFlagsField, []byte{ruleset.TCPSyn | ruleset.TCPRst}, []byte{ruleset.TCPSyn})
				if err != nil {
					return nil, nil, err
				}
				// It would add one where there is none, which nobody asked for.
				more = append(more, atom{slot: protocol, proto: 6}, atom{slot: tcpOption, text: "2"}, syn)
			}
			target, err := t.statement(s)
			if err != nil {
				return nil, nil, err
			}
			steps = append(steps, step{last.limits, target})
			if len(last.limits) > 0 && (i+1 < len(r.Do) || r.Counter != "" || r.Action.Kind != ruleset.Continue) {
				return nil, nil, errSteps
			}
			if len(last.limits) > 0 {
				last.limits = nil
			}
		}
	}
	return append(steps, last), more, nil
}

// alone refuses a rule whose limit would be kept by several lines, each for
// itself.
func (t *translator) alone(r *ruleset.Rule, lines int) error {
	for i := range r.Do {
		s := &r.Do[i]
		logs := s.Set == "" && s.Kind == ruleset.RateUnder && i+1 < len(r.Do) && r.Do[i+1].Kind == ruleset.Log
		if s.Kind != ruleset.RateUnder && s.Kind != ruleset.RateOver && s.Kind != ruleset.CountOver || logs {
			continue
		}
		name := s.Set
		if name == "" {
			name = "\x00" + r.ID
		}
		if s.Kind != ruleset.CountOver {
			lines = min(lines, 1) // those of one family share what they keep
		}
		// Tables that a rule stands in twice see the same packets twice.
		if t.counts[name] += lines; t.counts[name] > 1 {
			return errors.New("iptables counts IPv4 and IPv6 apart, and this limit is of both together; write two entries in its place, one with `family: ipv4`, and one with `family: ipv6` and another name")
		}
	}
	return nil
}

// limit translates a statement that limits.
func (t *translator) limit(s *ruleset.Statement, r *ruleset.Rule, logs bool) (string, error) {
	if s.Kind == ruleset.CountOver {
		set := t.sets[s.Set]
		if set == nil || !set.Dynamic || len(s.Fields) != len(set.Key) {
			return "", fmt.Errorf("there is no dynamic set %s with this key", s.Set)
		}
		text := fmt.Sprintf("-m connlimit --connlimit-above %d --connlimit-mask ", s.Count)
		if len(s.Fields) == 1 {
			switch s.Fields[0] {
			case ruleset.CtDirection, ruleset.L4Proto: // one key for all that come by
				return text + "0 --connlimit-saddr", nil
			case ruleset.IPSaddr, ruleset.CtOrigIPSaddr:
				return text + "32 --connlimit-saddr", nil
			case ruleset.IP6Saddr, ruleset.CtOrigIP6Saddr:
				return text + "128 --connlimit-saddr", nil
			case ruleset.IPDaddr:
				return text + "32 --connlimit-daddr", nil
			case ruleset.IP6Daddr:
				return text + "128 --connlimit-daddr", nil
			}
		}
		return "", errors.New("iptables counts connections by address, or all")
	}
	scale := uint64(hashlimitScale)
	if logs {
		scale = limitScale
	}
	rate, err := rateText(s.Rate, scale)
	if err != nil {
		return "", err
	}
	if logs {
		text := "-m limit --limit " + rate
		if s.Rate.Burst != 5 {
			text += fmt.Sprintf(" --limit-burst %d", s.Rate.Burst)
		}
		return text, nil
	}
	way := "upto"
	if s.Kind == ruleset.RateOver {
		way = "above"
	}
	text := fmt.Sprintf("-m hashlimit --hashlimit-%s %s --hashlimit-burst %d", way, rate, s.Rate.Burst)
	// Forgotten is what a whole burst may come after anyhow, and nothing sooner.
	name, size, expires := r.ID, uint32(1), s.Rate.Seconds*uint64(s.Rate.Burst)/s.Rate.Packets+1
	if s.Set != "" {
		set := t.sets[s.Set]
		if set == nil || !set.Dynamic {
			return "", fmt.Errorf("there is no dynamic set %s", s.Set)
		}
		var modes []string
		for _, f := range s.Fields {
			mode := map[ruleset.Field]string{
				ruleset.IPSaddr: "srcip", ruleset.IP6Saddr: "srcip", ruleset.IPDaddr: "dstip", ruleset.IP6Daddr: "dstip",
				ruleset.SrcPort: "srcport", ruleset.DstPort: "dstport",
			}[f]
			if mode == "" {
				return "", errors.New("iptables keeps rates by address and port")
			}
			modes = append(modes, mode)
		}
		text += " --hashlimit-mode " + strings.Join(modes, ",")
		name, size, expires = set.Name, set.Size, uint64(set.Timeout)
	}
	if expires == unspoken(rate) {
		expires++
	}
	// What a name holds outlives a change of the rule: another limit has
	// another name.
	h := fnv.New32a()
	fmt.Fprint(h, name, text, size, expires, t.place)
	return fmt.Sprintf("%s --hashlimit-name ipmasq-%08x --hashlimit-htable-max %d --hashlimit-htable-expire %d", text, h.Sum32(), size, expires*1000), nil
}

// unspoken is how many seconds hashlimit remembers at a rate of no other word,
// which iptables-save does not print: the rate's unit.
func unspoken(rate string) uint64 {
	_, unit, _ := strings.Cut(rate, "/")
	return map[string]uint64{"sec": 1, "min": 60, "hour": 3600, "day": 86400}[unit]
}

// The parts of a second in which the kernel keeps the time for one packet: of
// the limit match (XT_LIMIT_SCALE), and of hashlimit (XT_HASHLIMIT_SCALE_v2).
const (
	limitScale     = 10000
	hashlimitScale = 1000000
)

// rateText writes a rate as iptables prints what the kernel keeps of it.
func rateText(r ruleset.Rate, scale uint64) (string, error) {
	const day = 24 * 3600
	period := r.Seconds * scale / r.Packets
	if r.Seconds > day || period == 0 {
		return "", fmt.Errorf("iptables keeps rates of one a day to %d a second", scale)
	}
	// One packet in a hundred more is let pass, and no more than that.
	if closely := uint64(100); scale == hashlimitScale && period < closely && r.Seconds*scale%r.Packets != 0 {
		return "", fmt.Errorf("of rates above %d a second iptables keeps those that divide %d; write one of these, as 20000/second", scale/closely, scale)
	}
	// The kernel's credits are for a day, and more of them overflow (MAX_CPJ).
	if r.Seconds*uint64(r.Burst) > day*r.Packets {
		return "", errors.New("iptables keeps a burst of what comes in a day at most; give it a smaller `burst`")
	}
	units := []struct {
		name string
		mult uint64
	}{{"day", scale * 24 * 3600}, {"hour", scale * 3600}, {"min", scale * 60}, {"sec", scale}}
	i := 1
	for ; i < len(units); i++ {
		if period > units[i].mult || units[i].mult/period < units[i].mult%period {
			break
		}
	}
	return fmt.Sprintf("%d/%s", units[i-1].mult/period, units[i-1].name), nil
}

// maxLogPrefix is the longest prefix of LOG; NFLOG's is 63.
const (
	maxLogPrefix   = 29
	maxNFLogPrefix = 63
)

// statement translates a statement that does not limit.
func (t *translator) statement(s *ruleset.Statement) (string, error) {
	switch s.Kind {
	case ruleset.Log:
		return logTarget(&s.Log)
	case ruleset.SetMark:
		return fmt.Sprintf("-j MARK --set-xmark %#x/%#x", s.Value, s.Mask), nil
	case ruleset.SetCtMark:
		return fmt.Sprintf("-j CONNMARK --set-xmark %#x/%#x", s.Value, s.Mask), nil
	case ruleset.SetMaxSeg:
		if s.Value == 0 {
			return "-j TCPMSS --clamp-mss-to-pmtu", nil
		}
		return fmt.Sprintf("-j TCPMSS --set-mss %d", s.Value), nil
	case ruleset.NoTrack:
		if t.place.table != "raw" {
			return "", errors.New("iptables passes conntrack by in raw alone")
		}
		return "-j CT --notrack", nil
	case ruleset.SetHelper, ruleset.SetTimeout:
		return "", errAssign
	case ruleset.Offload:
		return "", errors.New("iptables cannot offload flows; leave `offload` out")
	}
	return "", errors.New("iptables cannot do this")
}

func logTarget(l *ruleset.LogTo) (string, error) {
	limit := maxLogPrefix
	text := "-j LOG"
	if l.HasGroup {
		text, limit = "-j NFLOG", maxNFLogPrefix
	}
	if len(l.Prefix) > limit {
		return "", fmt.Errorf("iptables writes prefixes of %d characters at most, and %q has %d; give it a shorter one, as `log: {prefix: ...}`", limit, l.Prefix, len(l.Prefix))
	}
	if l.HasGroup {
		if l.Prefix != "" {
			text += " --nflog-prefix " + quoted(l.Prefix)
		}
		if l.Group != 0 || l.Prefix == "" {
			text += fmt.Sprintf(" --nflog-group %d", l.Group)
		}
		return text, nil
	}
	if l.Prefix != "" {
		text += " --log-prefix " + quoted(l.Prefix)
	}
	const usual = 4 // warning
	if l.Level != usual {
		text += fmt.Sprintf(" --log-level %d", l.Level)
	}
	return text, nil
}

func synproxy(s ruleset.Syn) string {
	text := "-j SYNPROXY"
	if s.SACK {
		text += " --sack-perm"
	}
	if s.Timestamp {
		text += " --timestamp"
	}
	if s.WindowScale > 0 {
		text += fmt.Sprintf(" --wscale %d", s.WindowScale)
	}
	if s.MSS > 0 {
		text += fmt.Sprintf(" --mss %d", s.MSS)
	}
	return text
}
