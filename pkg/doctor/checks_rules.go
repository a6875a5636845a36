package doctor

// ruleChecks are about the rules: ours, and those of others.
var ruleChecks = []check{
	{"rules-missing", rulesMissing},
	{"rules-drifted", rulesDrifted},
	{"rules-behind", rulesBehind},
	{"rules-stop-entry", entryStopped},
	{"foreign-drop", foreignDrop},
	{"foreign-nat", foreignNAT},
	{"foreign-notrack", foreignUntrack},
	{"foreign-may-drop", foreignMayDrop},
	{"iptables-mixed", mixed},
}
