package doctor

// ruleChecks are about the rules: ours, and those of others.
var ruleChecks = []check{
	{"rules-missing", rulesMissing},
	{"rules-drifted", rulesDrifted},
	{"rules-behind", rulesBehind},
	{"rules-elsewhere", rulesElsewhere},
	{"rules-stop-entry", entryStopped},
	{"foreign-first", foreignFirst},
	{"foreign-drop", foreignDrop},
	{"bridge-drop", bridgeDrop},
	{"foreign-nat", foreignNAT},
	{"foreign-notrack", foreignUntrack},
	{"ipsec-blocks", ipsecBlocks},
	{"marks-overlap", marksOverlap},
	{"foreign-may-drop", foreignMayDrop},
	{"iptables-mixed", mixed},
}
