package link

// walk goes through the rules as the kernel does (net/core/fib_rules.c), and
// gives what the deciding table does with the packet.
func (f *fib) walk() (kind uint8) {
	for i := 0; i < len(f.rules); i++ {
		r := &f.rules[i]
		within := r.within < 0 || f.now[r.within] != 0
		// Turned round, one thing that does not fit is enough.
		certain := !r.asks || r.invert && !within
		if within == r.invert && (certain || !r.invert) {
			continue
		}
		switch r.action {
		case actLookup:
			if f.merged && i == 0 && f.mainFirst() {
				continue
			}
			for _, slot := range r.slots {
				if kind, decided := f.look(slot, r.suppress, certain); decided {
					return kind
				}
			}
		case actGoto:
			for certain && i+1 < len(f.rules) && f.rules[i+1].priority < r.target {
				i++
			}
		case actBlackhole, actUnreachable, actProhibit:
			if certain {
				return uint8(r.action) // numbered as the kinds of route
			}
		}
	}
	return uint8(KindUnreachable)
}

// look takes what one table says. It decides unless it has nothing to say, or
// the rule that led there may not apply.
func (f *fib) look(slot, suppress int, certain bool) (kind uint8, decided bool) {
	at := f.now[slot] - 1
	if at < 0 {
		return 0, false
	}
	// What a route refuses is never suppressed.
	if e := &f.entries[at]; int(e.bits) <= suppress && uint32(e.kind) <= KindMulticast {
		return 0, false
	}
	list := &f.behind
	if certain && !f.entries[at].tos {
		kind, decided = f.entries[at].kind, uint32(f.entries[at].kind) != KindThrow
		list = &f.best
	}
	for i, refused := int(at), false; i < len(f.entries) && f.entries[i].together(&f.entries[at]); i++ {
		e := &f.entries[i]
		if e.tos {
			list, refused = &f.behind, false
		}
		switch uint32(e.kind) {
		case KindUnicast, KindBroadcast, KindMulticast:
			if !refused {
				*list = append(*list, e.hops)
			}
		default: // and what is behind never has its turn
			refused = true
		}
	}
	return kind, decided
}

// mainFirst says whether the main table's prefix is longer than the local one's,
// which decides where both are one table.
func (f *fib) mainFirst() bool {
	local, main := f.now[0], f.now[f.slots[MainTable]]
	return main != 0 && (local == 0 || f.entries[main-1].bits > f.entries[local-1].bits)
}

// localKind is the kind of an IPv4 address, for which the local table alone
// counts (inet_addr_type of net/ipv4/fib_frontend.c).
func (f *fib) localKind() (kind uint8, device uint32) {
	at := f.now[0] - 1
	if f.merged && f.mainFirst() {
		at = f.now[f.slots[MainTable]] - 1
	}
	if at < 0 || f.entries[at].tos || uint32(f.entries[at].kind) > KindMulticast {
		return uint8(KindUnicast), 0
	}
	return f.entries[at].kind, f.entries[at].hops
}
