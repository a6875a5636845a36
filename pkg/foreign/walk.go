package foreign

// Outcome is what a base chain may do with a packet. Each is nil where it cannot
// happen; else it is the first rule, or the policy, that may do it.
type Outcome struct {
	Accept, Drop, Reject, DNAT, SNAT, Untrack *Decision
	// Ours is what of our own rules, in a chain that we share, takes some out of it
	// for good. It is taken for granted that they do not drop the packet.
	Ours *Decision
	// Unknown says that the walk was given up: there were too many rules.
	Unknown bool
}

// Decision is what decided: a rule of a chain or, where Rule is nil, the policy.
type Decision struct {
	Chain *Chain
	Rule  *Rule
}

// Stopped is why no packet of the kind passes, or nil where some may.
func (o *Outcome) Stopped() *Decision {
	if o.Unknown || o.Accept != nil || o.Ours != nil || o.DNAT != nil || o.SNAT != nil {
		return nil
	}
	return o.MayStop()
}

// MayStop is what stops some of them, or nil.
func (o *Outcome) MayStop() *Decision {
	if o.Drop != nil {
		return o.Drop
	}
	return o.Reject
}

// Packets is what was counted where it was decided, if anything was.
func (d *Decision) Packets() (uint64, bool) {
	if d.Rule == nil {
		return d.Chain.Packets, d.Chain.Counted
	}
	return d.Rule.Packets, d.Rule.Counted
}

const (
	mostRules = 200_000
	mostDepth = 32
)

type walk struct {
	p     *Packet
	out   Outcome
	steps int
	ours  bool // the rules are ours
}

// Walk asks what a base chain may do with a packet.
func (c *Chain) Walk(p *Packet) *Outcome {
	w := &walk{p: p}
	if w.chain(c, 0) {
		at := &w.out.Accept
		if c.Drops {
			at = &w.out.Drop
		}
		first(at, c, nil)
	}
	return &w.out
}

func first(at **Decision, c *Chain, r *Rule) {
	if *at == nil {
		*at = &Decision{c, r}
	}
}

// chain walks a chain and says whether a packet may come out at its end.
func (w *walk) chain(c *Chain, depth int) bool {
	if depth > mostDepth {
		w.out.Unknown = true
		return true
	}
	returned := false // whether some may have left by a return before
	for i := range c.Rules {
		r := &c.Rules[i]
		if w.steps++; w.steps > mostRules {
			w.out.Unknown = true
			return true
		}
		holds := r.holds(w.p)
		if holds == No {
			continue
		}
		ends := true
		verdict := r.Verdict
		if w.ours {
			switch verdict {
			case Accept, DNAT, SNAT:
				first(&w.out.Ours, c, r)
				verdict = Accept
			case Drop, Reject, Untrack:
				continue
			}
		}
		switch verdict {
		case Accept:
			if w.ours {
				break
			}
			first(&w.out.Accept, c, r)
		case Drop:
			first(&w.out.Drop, c, r)
		case Reject:
			first(&w.out.Reject, c, r)
		case DNAT, SNAT:
			at := &w.out.DNAT
			if verdict == SNAT {
				at = &w.out.SNAT
			}
			if w.out.Ours == nil { // else it was ours to translate
				first(at, c, r)
			}
		case Return:
			returned = true
		case Jump, Goto:
			to := c.table.leadsTo(r.To)
			if to == nil {
				ends = false
				break
			}
			before := w.ours
			w.ours = before || r.Ours
			falls := w.chain(to, depth+1)
			w.ours = before
			if r.Verdict == Goto {
				returned = returned || falls
			} else {
				ends = !falls
			}
		case Untrack:
			first(&w.out.Untrack, c, r)
			ends = false
		default:
			ends = false
		}
		if ends && holds == Yes {
			return returned
		}
	}
	return true
}

func (r *Rule) holds(p *Packet) Tri {
	holds := Yes
	for i := range r.Tests {
		if holds = min(holds, r.Tests[i].Holds(p)); holds == No {
			break
		}
	}
	return holds
}
