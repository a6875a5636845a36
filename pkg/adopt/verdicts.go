package adopt

import "slices"

// decided splits boxes by what rules make of them, for packets in one state:
// first what is accepted, then what is not. A rule that is vague may decide or
// not: of what it accepts nothing is taken to be accepted, of what it drops
// everything to be dropped.
func decided(list []*rule, boxes []box, state int) (accepted, closed []box, ok bool) {
	left := slices.Clone(boxes)
	for i := range left {
		left[i].b[byState] = setOf(state)
		if state == stateEstablished {
			left[i].b[byFlags] = left[i].b[byFlags].and(validFlags())
		}
	}
	for _, r := range list {
		switch r.do.kind {
		case doAccept, doDrop, doReject, doOdd:
		default:
			continue
		}
		if !r.do.terminal() || !r.b[byState].has(state) {
			continue
		}
		exact := r.box
		exact.odd, exact.rate = nil, nil
		var hit []box
		for _, x := range left {
			if h := x.and(exact); !h.empty() {
				hit = append(hit, h)
			}
		}
		if len(hit) == 0 {
			continue
		}
		if r.do.kind == doAccept {
			if r.vague() {
				continue
			}
			accepted = append(accepted, hit...)
		} else {
			closed = append(closed, hit...)
		}
		if left, ok = minusAll(left, exact); !ok {
			return nil, nil, false
		}
		if len(left) == 0 {
			break
		}
	}
	return accepted, append(closed, left...), true
}

// open says whether all of a box is accepted.
func open(list []*rule, x box, state int) bool {
	_, closed, ok := decided(list, []box{x}, state)
	return ok && len(closed) == 0
}

// shut says whether nothing of a box is accepted.
func shut(list []*rule, x box, state int) bool {
	accepted, _, ok := decided(list, []box{x}, state)
	if !ok {
		return false
	}
	if len(accepted) > 0 {
		return false
	}
	// What is accepted at a rate is accepted.
	x.b[byState] = setOf(state)
	return !slices.ContainsFunc(list, func(r *rule) bool { return r.do.kind == doAccept && r.vague() && r.meets(x) })
}

// settled says whether the rules of the policy, or a default that accepts,
// decide about all of a box. What rules drop is dropped before anything that
// entries open, so that opening such a box opens nothing.
func (f *filter) settled(x box) bool {
	if f.def == doAccept {
		return true
	}
	x.b[byState] = anyState()
	left := []box{x}
	for _, r := range append(slices.Clone(f.rules), f.final...) {
		if r.do.kind == doAccept && r.vague() {
			continue
		}
		y := r.box
		y.odd, y.rate = nil, nil
		var ok bool
		if left, ok = minusAll(left, y); !ok {
			return false
		}
	}
	return len(left) == 0
}

// validFlags are those that conntrack does not call invalid, whatever the state
// of a connection (nf_conntrack_proto_tcp.c, tcp_valid_flags).
func validFlags() set256 {
	const fin, syn, rst, psh, ack, urg = 1, 2, 4, 8, 16, 32
	var s set256
	for _, f := range []int{syn, syn | urg, syn | ack, rst, rst | ack, fin | ack, fin | ack | urg, ack, ack | urg} {
		s.add(f)
		s.add(f | psh)
	}
	return s
}
