package policy

// forwardFields are the keys of forward and input.
func forwardFields(kind ruleKind) []field[Forward] {
	return []field[Forward]{
		{key: "default", about: "what becomes of packets that come from a zone and that nothing else decides", value: actionShape, preset: "drop",
			takes: "drop, reject or accept", decode: func(d *decoder, n *node, f *Forward) {
				if action, ok := d.actionWord(n); ok && settled(d, n, kind.section()+".default", action, f.Default) {
					f.Default = action
				}
			}},
		{key: "rules", about: "the first rule that matches decides", value: ruleListShape(kind),
			takes: "a list of rules", decode: func(d *decoder, n *node, f *Forward) { d.rulesOf(n, kind, f) }},
	}
}

func (d *decoder) forwardSection(n *node, p *Policy) {
	d.ruleSection(n, forwardRules, &p.Forward)
}

func (d *decoder) inputSection(n *node, p *Policy) {
	if p.Input == nil {
		p.Input = &Forward{}
	}
	d.ruleSection(n, inputRules, p.Input)
}

func (d *decoder) ruleSection(n *node, kind ruleKind, f *Forward) {
	if f.Place == (Place{}) {
		f.Place = d.at(deref(n))
	}
	fields(d, n, forwardFields(kind), f)
}

// String gives the action as a policy writes it.
func (a Action) String() string {
	switch a {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	}
	return "drop"
}

func actionWords() []string { return []string{"accept", "drop", "reject"} }

func (d *decoder) action(n *node) Action {
	a, _ := d.actionWord(n)
	return a
}

func (d *decoder) actionWord(n *node) (Action, bool) {
	before := len(d.errs)
	a := word(d, n, actionWords(), []Action{Accept, Drop, Reject})
	return a, len(d.errs) == before
}
